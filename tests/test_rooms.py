"""Who may import whom: the four packages, the rooms of two of them, and no circles between modules.

Read from the source; nothing is imported. Imports within functions and for type checkers count like others.
What breaks a rule today stands in a list below; an entry no longer needed fails, so that the lists shrink.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.source import Source, circles

ROOT = Path(__file__).parents[1]

PACKAGES: dict[str, set[str]] = {
    "behavior": set(),
    "pipelines": {"behavior"},
    "models": {"behavior"},
    "cli": {"behavior", "pipelines", "models"},
}
"""What each imports of the others: a shard folder is all that passes between pipelines and models."""

FOREIGN: dict[str, set[str]] = {
    "behavior": {"torch", "lightning", "apache_beam", "typer", "rich"},
    "pipelines": {"torch", "lightning", "typer", "rich"},
    "models": {"apache_beam", "typer", "rich"},
    "cli": set(),
}
"""What each never imports."""

ROOMS: dict[str, list[str]] = {
    "behavior": [
        *("printable.py", "wording.py", "errors.py", "lazy.py", "files.py", "keys.py", "problems.py"),
        *("config.py", "named.py", "runtime"),
        *("spec", "arrow", "shards", "sources", "features", "packing", "sampling", "cooccurrence"),
        *("trends", "quality", "steps"),
        *("flow", "guess", "datasets", "synthetic", "summary"),
    ],
    "models": [
        *("registered.py", "gpu", "attention", "layers", "data", "distributed", "inputs", "backbones"),
        *(
            "history",
            "losses",
            "optim",
            "evaluation",
            "rankers",
            "tasks",
            "runs",
            "recipes",
            "config.py",
            "settings_docs.py",
            "build.py",
        ),
        *("serving", "evaluate_run.py", "training", "experiments", "scaling"),
    ],
}
"""From the ground up: each imports those before it only. Files at a package's root are rooms of their own."""

KNOWN_SILENT: set[str] = set()
"""Rooms that do not say what they are for."""

KNOWN_UPWARDS: set[str] = set()
KNOWN_CIRCLES: set[frozenset[str]] = set()

SETTINGS = ("models.config", ".config")
"""Puts together the settings of all rooms: it imports such modules from above as well."""

MOST_LINES = 350
KNOWN_LONG: dict[str, int] = {}

MOST_ARGUMENTS = 14
KNOWN_MANY = {
    "cli/evaluate.py": 21,
    "cli/prepare.py": 17,
    "cli/recommend.py": 28,
    "cli/train.py": 17,
    "models/attention/paged/appending.py": 42,
    "models/attention/paged/forward.py": 44,
    "models/attention/paged/scores.py": 20,
    "models/attention/silu/attention_function.py": 19,
    "models/attention/silu/forward.py": 38,
    "models/attention/silu/key_gradients.py": 48,
    "models/attention/silu/query_gradients.py": 50,
    "models/attention/silu/written_bias.py": 18,
    "models/history/kernels/forward.py": 27,
    "models/history/kernels/key_gradients.py": 31,
    "models/history/kernels/query_gradients.py": 33,
    "models/layers/kernels/norm_kernels.py": 15,
    "models/losses/kernels/softmax_kernels.py": 15,
}
"""Kernels get everything by itself, and a command its flags."""


@pytest.fixture(scope="module")
def source() -> Source:
    return Source(ROOT, tuple(PACKAGES))


def test_packages_import_one_way(source: Source) -> None:
    wrong = [
        f"{importer} -> {imported}"
        for importer, imported in source.imports
        if (theirs := imported.split(".")[0]) != (ours := importer.split(".")[0])
        and theirs in PACKAGES
        and theirs not in PACKAGES[ours]
    ]
    assert not wrong


def test_packages_do_without_what_is_not_theirs(source: Source) -> None:
    wrong = [
        f"{importer} -> {imported}"
        for importer, imported in source.foreign
        if imported.split(".")[0] in FOREIGN[importer.split(".")[0]]
    ]
    assert not wrong


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_its_place_and_says_what_it_is(package: str, source: Source) -> None:
    """A new file at a package's root wants a reason; a new room a place in the order."""
    assert set(ROOMS[package]) == {room for room in source.rooms(package) if room != "__init__.py"}
    folders = [f"{package}.{room}" for room in ROOMS[package] if not room.endswith(".py")]
    silent = {room for room in folders if not source.docstring(room)}
    assert silent == {room for room in KNOWN_SILENT if room.startswith(package)}


def test_rooms_import_downwards(source: Source) -> None:
    found = set()
    for importer, imported in source.imports:
        package = importer.split(".")[0]
        # The package itself gives its users names of all rooms.
        if package in ROOMS and importer != package and imported.startswith(f"{package}."):
            height = ROOMS[package].index
            settings = importer == SETTINGS[0] and imported.endswith(SETTINGS[1])
            if not settings and height(source.room(imported)) > height(source.room(importer)):
                found.add(f"{importer} -> {imported}")
    assert found == KNOWN_UPWARDS


def test_no_module_imports_itself_by_way_of_others(source: Source) -> None:
    assert {frozenset(circle) for circle in circles(source.imports)} == KNOWN_CIRCLES


def test_files_are_short(source: Source) -> None:
    lines = {path: len(text.splitlines()) for path, text in source.texts.items()}
    too_long = {path: count for path, count in lines.items() if count > KNOWN_LONG.get(path, MOST_LINES)}
    assert not too_long
    assert not [path for path in KNOWN_LONG if lines.get(path, 0) <= MOST_LINES]


def test_lists_of_arguments_are_short(source: Source) -> None:
    arguments = source.most_arguments()
    too_many = {path: n for path, n in arguments.items() if n > KNOWN_MANY.get(path, MOST_ARGUMENTS)}
    assert not too_many
    assert not [path for path in KNOWN_MANY if arguments.get(path, 0) <= MOST_ARGUMENTS]


def test_what_breaks_a_rule_is_found(tmp_path: Path) -> None:
    files = {
        "low/__init__.py": '"""Says it."""\nfrom typing import TYPE_CHECKING\n'
        "if TYPE_CHECKING:\n    from top.low.words import word\n",
        "low/words.py": "word = 1\n",
        "low/late.py": "def f(a, b, *, c):\n    from top.high import tall\n    import numpy.linalg\n",
        "high/__init__.py": "from top.low import word\n",
        "high/tall.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from top.low import late\n",
    }
    for name, text in files.items():
        path = tmp_path / "top" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "top" / "__init__.py").touch()
    source = Source(tmp_path, ("top",))
    assert set(source.imports) == {
        ("top.low.late", "top.high.tall"),
        ("top.high.tall", "top.low.late"),
        # Names that a room gives its users come from where they are defined.
        ("top.high", "top.low.words"),
    }
    assert ("top.low.late", "numpy.linalg") in source.foreign
    assert [set(circle) for circle in circles(source.imports)] == [{"top.low.late", "top.high.tall"}]
    assert source.rooms("top") == {"__init__.py", "low", "high"}
    assert source.room("top.low.late") == source.room("top.low") == "low"
    assert (source.docstring("top.low"), source.docstring("top.high")) == ("Says it.", None)
    assert source.most_arguments()["top/low/late.py"] == 3
