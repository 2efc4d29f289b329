"""Two modules write to the terminal, and both escape what they write: no other print exists."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.source import Source

ROOT = Path(__file__).parents[1]
PACKAGES = ("behavior", "pipelines", "models", "cli")
PRINTERS = {"behavior/printable.py", "cli/console.py"}
PRINTING = {"print", "print_exc", "print_exception", "print_json", "echo", "secho", "writelines"}
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}
KNOWN_WARNINGS = {"models/gpu/fast_launch.py", "models/serving/cache/replays.py"}
"""`warnings.warn`, with versions of packages or why a kernel cannot run in it, and nothing of the user's."""


def prints(tree: ast.AST) -> Iterator[str]:
    """What in a module prints: calls of print and the like, writes to a stream, imports of rich."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id == "print":
                yield ast.unparse(node)
            if isinstance(called, ast.Attribute):
                target = called.value
                to_stream = isinstance(target, ast.Attribute) and target.attr in STREAMS
                if called.attr in PRINTING or (to_stream and called.attr == "write"):
                    yield ast.unparse(node)
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name for name in imported if name.split(".")[0] == "rich")


def test_no_other_print_exists() -> None:
    source = Source(ROOT, PACKAGES)
    trees = {path: ast.parse(text) for path, text in source.texts.items()}
    assert {path: found for path, tree in trees.items() if (found := list(prints(tree)))}.keys() == PRINTERS
    warning = {path for path, text in source.texts.items() if "warnings.warn" in text}
    assert warning == KNOWN_WARNINGS


def test_what_prints_is_found() -> None:
    for text in (
        "print('x')",
        "console.print(x, markup=False)",
        "typer.echo(x)",
        "sys.stdout.write(x)",
        "sys.stderr.write(x)",
        "traceback.print_exc()",
        "from rich.console import Console",
        "import rich",
    ):
        assert list(prints(ast.parse(text))), text
    assert not list(prints(ast.parse("file.write(x); say(x); sys.stdout.flush(); print_table(x)")))
