"""`lrm inspect`: a raw file, or a shard folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from behavior.errors import UserError
from cli.console import out, print_json, print_table


def inspect(
    path: Annotated[Path, typer.Argument(help="A raw file, or a folder made by 'lrm prepare'.")],
    save: Annotated[Path | None, typer.Option(help="Raw files: save the proposed spec here.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look into a raw file (guessed columns, a proposed spec) or a shard folder (its statistics).

    Example:  lrm inspect logs/events.csv --save logs/spec.yaml
    """
    if path.is_dir():
        if save is not None:
            raise UserError(
                "a shard folder needs no spec", where="--save", fix="name a raw file instead of a folder"
            )
        _inspect_shards(path, json)
    else:
        _inspect_file(path, save, json)


def _inspect_file(path: Path, save: Path | None, json: bool) -> None:
    from behavior.guess import guess_file

    guess = guess_file(path)
    if json:
        print_json(guess.to_record())
    else:
        _print_guess(guess, path)
    if save is not None:
        _save_spec(guess, path, save)
        if not json:
            out.print(f"saved {save}; next: lrm prepare {save} --out DIR", markup=False)


def _print_guess(guess: Any, path: Path) -> None:
    form = guess.format + (f", separated by {guess.separator!r}" if guess.separator else "")
    if guess.header is not None:
        form += ", with a header" if guess.header else ", no header"
    rows = [
        (
            column.name,
            column.kind,
            column.role or "",
            column.distinct,
            column.empty,
            ", ".join(column.examples),
        )
        for column in guess.columns
    ]
    title = f"{path}: {form}, {guess.encoding}; timestamps: {guess.timestamp_unit}"
    print_table(title, ("column", "kind", "role", "distinct", "empty", "examples"), rows)
    if guess.spec is not None:
        out.print("proposed spec:", style="bold")
        out.print(guess.spec_yaml(), markup=False, highlight=False, soft_wrap=True)
    for note in guess.notes:
        out.print(f"note: {note}", markup=False)


def _save_spec(guess: Any, path: Path, save: Path) -> None:
    if guess.spec is None:
        raise UserError(guess.notes[0], where=str(path), fix="write the spec by hand")
    if save.exists():
        raise UserError(f"'{save}' is there already", where="--save", fix="name another file")
    # Paths in a spec are relative to the spec's own folder.
    same_folder = save.resolve().parent == path.resolve().parent
    guess.spec["events"]["files"] = path.name if same_folder else str(path.resolve())
    try:
        save.write_text(guess.spec_yaml(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write '{save}': {error.strerror}", where="--save") from None


def _inspect_shards(path: Path, json: bool) -> None:
    from behavior.shards import open_shards

    shards = open_shards(path)
    shards.verify()
    manifest = shards.manifest
    stats = shards.stats()
    top = shards.items().slice(0, 10).select(["index", "id", "count", "train_count"]).to_pylist()
    if json:
        summary = manifest.model_dump(exclude={"spec"})
        print_json({**summary, "stats": stats, "top_items": top})
        return
    counts = list(manifest.counts.model_dump().items())
    rows = [*counts, ("sequence files", len(shards.sequence_files()))]
    rows += [("users validated", stats["users_validated"]), ("users tested", stats["users_tested"])]
    print_table(f"{manifest.name} in {path} (checksums right)", ("", "number"), rows)
    out.print(
        f"time: {_span(stats['time'])}; split: {manifest.split['kind']}; density {stats['density']:.3%}"
    )
    total = max(sum(stats["behaviors"].values()), 1)
    behaviors = [
        (name, number, f"{number / total:.1%}", "target" if name in manifest.targets else "")
        for name, number in stats["behaviors"].items()
    ]
    print_table("behaviors", ("behavior", "events", "share", ""), behaviors)
    lengths = stats["sequence_length"]
    title = f"sequence lengths (mean {lengths['mean']:.1f}, longest {lengths['longest']:,})"
    bins = [
        (f"{entry['from']:,} to {entry['below'] - 1:,}", entry["number"]) for entry in lengths["histogram"]
    ]
    print_table(title, ("events", "users"), bins)
    items = [(item["index"], str(item["id"]), item["count"], item["train_count"]) for item in top]
    print_table("top items", ("index", "id", "events", "in training"), items)


def _span(time: dict[str, Any]) -> str:
    if time["unit"] == "none" or time["first"] is None:
        return "none, the log's order counts"
    ticks = {"s": 1, "ms": 1_000, "us": 1_000_000}[time["unit"]]
    try:
        first, last = (datetime.fromtimestamp(time[end] / ticks, UTC) for end in ("first", "last"))
    except (OverflowError, ValueError, OSError):
        return f"{time['first']} to {time['last']} {time['unit']}"
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
