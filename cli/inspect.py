"""`lrm inspect`: a raw file, or a shard folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from behavior.errors import UsageError, UserError
from cli.console import print_json, print_table, say

if TYPE_CHECKING:
    from behavior.guess.guessed import Guess, GuessedColumn
    from behavior.quality.histories import Part
    from behavior.shards.folder import ShardFolder
    from behavior.summary.event_sample import EventSample


def inspect(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Raw files, or their folder; or a shard folder made by 'lrm prepare' (gs:// and s3:// too).",
            metavar="PATH...",
        ),
    ],
    save: Annotated[Path | None, typer.Option(help="Raw files: save the proposed spec here.")] = None,
    png: Annotated[
        Path | None, typer.Option(help="Shard folder: draw the statistics into this PNG file.")
    ] = None,
    quality: Annotated[
        bool,
        typer.Option(help="Shard folder: measure how predictable, repetitive and skewed its events are."),
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(help="With --quality: which events, train (default), valid (and train), all."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Inspect raw files (guessed columns, a proposed spec) or a shard folder (its statistics).

    Example:  lrm inspect logs/events.csv --save logs/spec.yaml

    Example:  lrm inspect logs/events.csv logs/products.csv --save logs/spec.yaml

    Example:  lrm inspect data/mine --png data/mine.png

    Example:  lrm inspect data/mine --quality --part all
    """
    path = paths[0]
    raw = _raw_files(paths)
    measured = _checked_part(raw, quality, part)
    if raw is None:
        if save is not None:
            raise UsageError(
                "a shard folder needs no spec", where="--save", fix="name a raw file instead of a folder"
            )
        _check_png(png)
        _inspect_shards(path, png, json, measured)
    else:
        if png is not None:
            raise UsageError(
                "a raw file has no statistics to draw", where="--png", fix="name a folder of 'lrm prepare'"
            )
        _inspect_files(raw, save, json)


def _raw_files(paths: list[str]) -> list[Path] | None:
    """The raw files to look at; None for a shard folder."""
    from behavior.guess.files import raw_files

    if len(paths) == 1 and ("://" in paths[0] or Path(paths[0]).is_dir()):
        return (None if "://" in paths[0] else raw_files(paths[0])) or None
    for path in paths:
        if "://" in path or Path(path).is_dir():
            raise UserError(f"'{path}' is no raw file", where="PATH", fix="name files, or one folder alone")
    return [Path(path) for path in paths]


def _checked_part(raw: list[Path] | None, quality: bool, part: str | None) -> Part | None:
    """The events whose quality is measured, None for none."""
    from typing import get_args

    from behavior.config import did_you_mean
    from behavior.quality.histories import Part

    if quality and raw is not None:
        missing = next((path for path in raw if not path.exists()), None)
        if missing is not None:
            raise UserError(f"there is nothing at '{missing}'", where="PATH", fix="check the path")
        what = "the quality of raw files cannot be measured"
        raise UsageError(what, where="--quality", fix="name a folder of 'lrm prepare'")
    if part is not None and not quality:
        raise UsageError("it is about --quality", where="--part", fix="add --quality, or leave it out")
    parts = list(get_args(Part))
    if part is not None and part not in parts:
        raise UsageError(f"there is no part '{part}'", where="--part", fix=did_you_mean(part, parts))
    return cast("Part", part or parts[0]) if quality else None


def _check_png(png: Path | None) -> None:
    """Say what is wrong before anything is read: that may take a while."""
    if png is not None and png.suffix.lower() != ".png":
        raise UsageError(f"'{png}' is no name of a PNG file", where="--png", fix="let it end in .png")
    if png is not None and not png.parent.is_dir():
        raise UserError(f"there is no folder '{png.parent}'", where="--png", fix="check the path")


def _inspect_files(paths: list[Path], save: Path | None, json: bool) -> None:
    from behavior.guess.files import guess_files

    guess = guess_files(paths)
    if json:
        print_json(guess.to_record())
    else:
        _print_guess(guess)
    if save is not None:
        guess.save_spec(save)
        if not json:
            then = "fill in the ???, then" if guess.open else "next:"
            say(f"saved {save}; {then} lrm prepare {save} --out DIR")


def _print_guess(guess: Guess) -> None:
    form = guess.format + (f", separated by {guess.separator!r}" if guess.separator else "")
    if guess.header is not None:
        form += ", with a header" if guess.header else ", no header"
    _print_columns(
        f"{guess.path}: {form}, {guess.encoding}; timestamps: {guess.timestamp_unit}", guess.columns
    )
    for path, columns in guess.others.items():
        _print_columns(path, columns)
    say("proposed spec:" if not guess.open else "proposed spec, with ??? to fill in:", style="bold")
    say(guess.spec_yaml())
    for note in guess.notes:
        say(f"note: {note}")


def _print_columns(title: str, columns: list[GuessedColumn]) -> None:
    rows = [
        (
            column.name,
            column.kind,
            (column.role or "") + ("" if column.sure or column.role is None else " (not sure)"),
            column.distinct,
            column.empty,
            ", ".join(column.examples),
        )
        for column in columns
    ]
    print_table(title, ("column", "kind", "role", "distinct", "empty", "examples"), rows)


def _inspect_shards(path: str, png: Path | None, json: bool, part: Part | None) -> None:
    from behavior.shards.folder import open_shards
    from behavior.summary.event_sample import sample_events
    from behavior.summary.facts import shard_facts, shard_record

    shards = open_shards(path)
    shards.verify()
    sample = sample_events(shards)
    quality = None
    if part is not None:
        from behavior.quality.measure import measure_quality

        quality = measure_quality(shards, part)
    if png is not None:
        # Matplotlib takes a while to import: only those who need it pay.
        from behavior.summary.figure import save_png, shard_figure

        save_png(shard_figure(shards, sample, shard_facts(shards)), png)
    if json:
        record = shard_record(shards, sample) | ({} if png is None else {"png": str(png)})
        print_json(record | ({} if quality is None else {"quality": quality.to_record()}))
        return
    _print_shards(shards, sample, path)
    if quality is not None:
        from behavior.summary.tables import quality_table

        print_table(*quality_table(quality))
        for note in quality.notes:
            say(f"note: {note}")
    if png is not None:
        say(f"drawn: {png}")


def _print_shards(shards: ShardFolder, sample: EventSample | None, path: str) -> None:
    from behavior.summary.doubt import doubts
    from behavior.summary.facts import listed, percent, time_span
    from behavior.summary.tables import counts_table, history_table, shard_tables

    manifest, stats = shards.manifest, shards.stats()
    print_table(*counts_table(shards, path))
    span, density = time_span(stats["time"]), percent(stats["density"])
    text = f"time: {span}; split: {manifest.split['kind']}; density {density}"
    say(text)
    for doubt in doubts(shards):
        say(f"warning: {doubt}", style="yellow")
    for table in shard_tables(shards, sample):
        print_table(*table)
    if manifest.history:
        print_table(*history_table(manifest))
    elif manifest.version > 1:
        say(f"version {manifest.version}, prepared as a whole")
    if manifest.damaged_files:
        text = f"files that could not be read to their end: {listed(manifest.damaged_files)}"
        say(text, style="yellow")
