"""What a file is by its first bytes, where it is not the text it is taken for."""

from __future__ import annotations

import re

HEAD_BYTES = 512
_READ = {"gzip": "compression", "zstd": "compression", "Parquet": "format"}
"""What is read after all, by which setting of the spec."""
_COMPRESSED = {"bz2", "xz", "lz4", "snappy", "lzma", "Unix compress"}
_ARCHIVES = {"zip", "7z", "rar", "tar"}
_MAGIC: tuple[tuple[str, bytes], ...] = (
    ("gzip", rb"\x1f\x8b\x08"),
    ("zstd", rb"\x28\xb5\x2f\xfd"),
    ("Parquet", rb"PAR1"),
    ("bz2", rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38)"),
    ("xz", rb"\xfd7zXZ\x00"),
    ("lz4", rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18"),
    ("snappy", rb"\xff\x06\x00\x00sNaPpY"),
    ("lzma", rb"\x5d\x00\x00[\x00-\xff]{2}\xff{8}"),
    ("Unix compress", rb"\x1f\x9d"),
    ("zip", rb"PK(\x03\x04|\x05\x06|\x07\x08)"),
    ("7z", rb"7z\xbc\xaf\x27\x1c"),
    ("rar", rb"Rar!\x1a\x07"),
    ("tar", rb"[\x00-\xff]{257}ustar[\x00 ]"),
    ("ORC", rb"ORC[\x00-\x08\x0e-\x1f\x80-\xff]"),
    ("Avro", rb"Obj\x01"),
    ("Arrow", rb"ARROW1\x00"),
    ("HDF5", rb"\x89HDF\r\n\x1a\n"),
    ("SQLite", rb"SQLite format 3\x00"),
    ("an Excel workbook", rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
)
_PATTERNS = [(name, re.compile(pattern)) for name, pattern in _MAGIC]


def kind_of_bytes(head: bytes) -> str | None:
    """What a file is that begins with `head`: gzip, zip, Parquet ...; None for text, or what is not known."""
    return next((name for name, pattern in _PATTERNS if pattern.match(head)), None)


def is_compression(kind: str | None) -> bool:
    """Whether a kind is a compression that is read."""
    return _READ.get(kind or "") == "compression"


def advice(kind: str) -> tuple[str, str]:
    """What is wrong with a file of this kind that was to be read as text, and what to do."""
    setting = _READ.get(kind)
    if setting is not None:
        return f"is {kind}, not text", f"set '{setting}: {kind.lower()}' in the spec"
    if kind in _COMPRESSED | _ARCHIVES:
        return f"is {kind}, which is not read", "unpack it, or compress it with gzip or zstd"
    return f"is {kind}, which is not read", "write it as Parquet or as delimited text"
