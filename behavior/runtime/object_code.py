"""What machine code on disk asks for from elsewhere: undefined symbols of an object file (ELF, 64 bits)."""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_ELF, _64_BITS, _LITTLE_ENDIAN = b"\x7fELF", 2, 1
_SYMBOL_TABLE, _UNDEFINED = 2, 0


def undefined_symbols(code: bytes) -> list[str] | None:
    """The names that a linker must find elsewhere; None where the object file is none of those that are read.

    Source: System V ABI, ELF-64 object file format: header, section headers, symbol table.

    Args:
        code: an object file.
    """
    try:
        magic, bits, order, _, *numbers = _HEADER.unpack_from(code)
        if (magic, bits, order) != (_ELF, _64_BITS, _LITTLE_ENDIAN):
            return None
        first, size, count = numbers[5], numbers[10], numbers[11]
        sections = [_SECTION.unpack_from(code, first + number * size) for number in range(count)]
        found = []
        for _, kind, _, _, start, length, strings, _, _, step in sections:
            if kind == _SYMBOL_TABLE:
                names = sections[strings][4]
                for at in range(start + step, start + length, step):  # the first of all is empty
                    name, _, _, section, _, _ = _SYMBOL.unpack_from(code, at)
                    if section == _UNDEFINED:
                        found.append(code[names + name : code.index(b"\0", names + name)].decode())
    except (struct.error, IndexError, ValueError):
        return None
    return found
