"""What a source tree says of itself, by its syntax alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

Edge = tuple[str, str]


class Source:
    """The modules of some packages.

    Args:
        root: folder of the packages.
        packages: their names.
    """

    def __init__(self, root: Path, packages: tuple[str, ...]) -> None:
        self.packages = packages
        paths = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
        self.texts = {path.relative_to(root).as_posix(): path.read_text() for path in paths}
        """Of each file, by its path."""
        self.trees = {_module(path): ast.parse(text) for path, text in self.texts.items()}
        """Of each module, by its dotted name."""
        self._homes = {_module(path) for path in self.texts if path.endswith("__init__.py")}
        self._lazy = {module: _for_type_checkers(self.trees[module]) for module in self._homes}
        self._given = {module: _given(self.trees[module]) for module in self._homes}

    @cached_property
    def imports(self) -> list[Edge]:
        """(importer, imported) between modules of the packages."""
        return sorted({edge for edge in self._edges() if edge[1] in self.trees})

    @cached_property
    def foreign(self) -> list[Edge]:
        """The same of everything else."""
        return sorted({edge for edge in self._edges() if edge[1] not in self.trees and self._is_other(edge)})

    def rooms(self, package: str) -> set[str]:
        """Folders and files at a package's root."""
        return {path.split("/")[1] for path in self.texts if path.startswith(f"{package}/")}

    def room(self, module: str) -> str:
        """Which of them a module of a package is in."""
        name = module.split(".")[1]
        return name if f"{'/'.join(module.split('.')[:2])}/__init__.py" in self.texts else f"{name}.py"

    def docstring(self, module: str) -> str | None:
        return ast.get_docstring(self.trees[module])

    def most_arguments(self) -> dict[str, int]:
        """The longest list of arguments in each file that has one."""
        found: dict[str, int] = {}
        for path in self.texts:
            for node in ast.walk(self.trees[_module(path)]):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    given = node.args
                    count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
                    found[path] = max(count, found.get(path, 0))
        return found

    def _edges(self) -> Iterator[Edge]:
        for module in self.trees:
            for target, name in self._named(module):
                yield from ((module, found) for found in self._defined(target, name) if found != module)

    def _named(self, module: str) -> Iterator[tuple[str, str | None]]:
        tree = self.trees[module]
        # What a room gives lazily is named for type checkers alone.
        skipped = self._lazy.get(module, set())
        for node in ast.walk(tree):
            if node in skipped:
                continue
            if isinstance(node, ast.Import):
                yield from ((alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: imports are absolute here"
                yield from ((node.module or "", alias.name) for alias in node.names)

    def _defined(self, target: str, name: str | None) -> list[str]:
        """Where `from target import name` comes from, through what the `__init__` of a room gives on."""
        if name is None or target not in self._homes:
            return [target]
        if f"{target}.{name}" in self.trees:
            return [f"{target}.{name}"]
        node = self._given[target].get(name)
        if node is None:
            return [target]
        beyond = self._defined(node.module or "", name)
        return beyond if node in self._lazy[target] else [target, *beyond]

    def _is_other(self, edge: Edge) -> bool:
        return edge[1].split(".")[0] not in self.packages


def circles(edges: Iterable[Edge]) -> list[list[str]]:
    """Groups of modules each of which imports, by way of others, all of the group (Tarjan, 1972)."""
    following: dict[str, list[str]] = {}
    for importer, imported in edges:
        following.setdefault(importer, []).append(imported)
        following.setdefault(imported, [])
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in following[module]:
            if other not in number:
                visit(other)
            if other in stack:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == number[module]:
            at = stack.index(module)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(group)

    for module in following:
        if module not in number:
            visit(module)
    return found


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _for_type_checkers(tree: ast.Module) -> set[ast.AST]:
    """Nodes below `if TYPE_CHECKING:`."""
    return {
        below
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for below in ast.walk(statement)
    }


def _given(tree: ast.Module) -> dict[str, ast.ImportFrom]:
    """By each name that a module imports from others, the statement."""
    return {
        alias.asname or alias.name: node
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
