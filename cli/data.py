"""`lrm data`: public data sets with ready specs, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from behavior.wording import number_of
from cli.console import note, print_json, print_table, progress_bars, say
from cli.interrupted import AGAIN, advised

app = typer.Typer(
    name="data",
    help="Public data sets: list those with ready specs, and download their files.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_CHECKED = {
    "sha256": "SHA-256 verified",
    "md5": "MD5 verified",
    "size": "size verified",
    "none": "no checksum is published",
}


@app.command("list")
def list_sets(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the public data sets with ready specs.

    Example:  lrm data list
    """
    from behavior.datasets import names
    from behavior.datasets.sources import describe

    records = [describe(name) for name in names()]
    if json:
        print_json(records)
        return
    rows = [(r["name"], _what(r), "\n".join(filter(None, _amount(r)))) for r in records]
    print_table("ready data sets", ("name", "what, license, home page", "size, fetching"), rows)
    say("variants and files of each: lrm data list --json; to fetch one: lrm data fetch NAME --out DIR")


def _what(record: dict[str, Any]) -> str:
    return f"{record['description']}\n{record['license']}\n{record['homepage']}"


def _amount(record: dict[str, Any]) -> tuple[str, str, str]:
    events = _number(record["events"])
    return f"{events} events" if events else "", _size(record["bytes"]), _fetching(record)


def _fetching(record: dict[str, Any]) -> str:
    if not record["fetchable"]:
        return "to get by hand"
    return number_of(len(record["variants"]), "variant") if record["variants"] else "lrm data fetch"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _size(value: int | dict[str, int | None] | None) -> str:
    if isinstance(value, dict):
        known = [size for size in value.values() if size is not None]
        return f"{_size(min(known))} to {_size(max(known))}" if known else ""
    if value is None:
        return ""
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


@app.command("fetch")
def fetch_set(
    name: Annotated[str, typer.Argument(help="Name of a data set; see 'lrm data list'.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for its files.")],
    variant: Annotated[
        str | None, typer.Option(help="Variant (size or category), where there are several.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Download the files of a data set, verify their checksums, and unpack what its ready spec reads.

    An interrupted download resumes where it stopped when the command is run again.

    Example:  lrm data fetch ml-1m --out ml-1m
    """
    from behavior.datasets.fetch import fetch
    from behavior.datasets.sources import spec_of

    spec = spec_of(name)
    # Before anything is downloaded; on standard error, so that --json stays clean.
    note(f"{name}: license: {spec.license}; see {spec.homepage}")
    with progress_bars(quiet=json) as bars:
        tasks: dict[str, Any] = {}

        def progress(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=None, note="bytes")
            bars.update(tasks[file], completed=done, total=total)

        with advised(f"{AGAIN} to go on with the download"):
            fetched = fetch(name, folder, variant=variant, progress=progress)
    if json:
        print_json({"out": str(folder), "name": name, "files": [file.to_record() for file in fetched]})
        return
    for file in fetched:
        what = f"{file.path}: {file.bytes:,} bytes, {_CHECKED[file.verified]}"
        say(what + (", was there before" if file.was_there else ""))
        for member in file.members:
            say(f"  {member}")
    say(f"next: lrm prepare {name} --input {folder} --out DIR")
