"""What machine code asks for, and compiled code that is loaded without all that compiling takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from behavior.runtime.object_code import undefined_symbols

TWO_UNKNOWN = """
declare double @known_elsewhere(double)
@found_elsewhere = external global i64
@of_its_own = global i64 3
define private double @inner(double %x) {
  ret double %x
}
define double @outer(double %x) {
  %a = call double @known_elsewhere(double %x)
  %b = load i64, i64* @found_elsewhere
  %c = load i64, i64* @of_its_own
  %d = add i64 %b, %c
  %e = sitofp i64 %d to double
  %f = fadd double %a, %e
  ret double %f
}
"""
NONE_UNKNOWN = "define i64 @one() {\n  ret i64 1\n}\n"


def object_of(assembly: str) -> bytes:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine()
    return bytes(machine.emit_object(llvm.parse_assembly(assembly)))


@pytest.mark.skipif("x86" not in llvm.get_process_triple(), reason="LLVM here makes no code for x86")
def test_names_that_a_linker_must_find() -> None:
    code = object_of(TWO_UNKNOWN)
    names = set(undefined_symbols(code) or ())
    assert {"known_elsewhere", "found_elsewhere"} <= names
    assert not names & {"inner", "outer", "of_its_own", ""}
    assert undefined_symbols(object_of(NONE_UNKNOWN)) == []
    for length in (0, 3, 40, len(code) // 2, len(code) - 70):
        assert undefined_symbols(code[:length]) is None
    assert undefined_symbols(b"MZ" + code) is None


SOURCE = """
import numpy as np
from behavior.runtime.compiled import compiled

@compiled
def total(numbers):
    found = np.zeros(2)
    for number in numbers:
        found[0] += np.log(number)
        found[1] += 1
    return found

@compiled
def hashed(text):
    return hash(text)

@compiled
def larger(numbers):
    return np.sort(numbers)[-1]
"""
CALLS = """
import json, sys
import numpy as np
import functions

numbers = np.arange(1.0, 9.0)
told = {"total": functions.total(numbers).tolist(), "light": "numba.np.linalg" not in sys.modules}
told["hashed"] = functions.hashed("of a user") == hash("of a user")
told["larger"] = functions.larger(numbers) if sys.argv[1] == "all" else None
told["hits"] = [sum(functions.__dict__[name].stats.cache_hits.values()) for name in ("total", "hashed")]
print(json.dumps(told))
"""


def test_loaded_code_needs_no_compiler(tmp_path: Path) -> None:
    """Also where what it calls must be made first (a hash), and where other functions are compiled later."""
    (tmp_path / "functions.py").write_text(SOURCE)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def told(*arguments: str) -> dict[str, object]:
        command = [sys.executable, "-c", CALLS, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    first, again, then = told("two"), told("two"), told("all")
    assert first["total"] == again["total"] == then["total"] == [pytest.approx(10.604602902745251), 8.0]
    assert (first["hits"], again["hits"], then["hits"]) == ([0, 0], [1, 1], [1, 1])
    assert again["light"]
    assert all(found["hashed"] for found in (first, again, then))
    assert then["larger"] == 8.0
