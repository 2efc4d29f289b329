"""`lrm inspect`: a raw file, or a shard folder."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from behavior.errors import UserError
from cli.console import out, print_json, print_table

if TYPE_CHECKING:
    from behavior.shards.folder import ShardFolder
    from behavior.shards.manifest import Manifest
    from cli.figures import EventSample


def inspect(
    path: Annotated[
        str, typer.Argument(help="A raw file, or a folder made by 'lrm prepare' (also at gs:// or s3://).")
    ],
    save: Annotated[Path | None, typer.Option(help="Raw files: save the proposed spec here.")] = None,
    png: Annotated[Path | None, typer.Option(help="Folders: draw the statistics into this file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look into a raw file (guessed columns, a proposed spec) or a shard folder (its statistics).

    Example:  lrm inspect logs/events.csv --save logs/spec.yaml

    Example:  lrm inspect data/mine --png data/mine.png
    """
    if "://" in path or Path(path).is_dir():
        if save is not None:
            raise UserError(
                "a shard folder needs no spec", where="--save", fix="name a raw file instead of a folder"
            )
        _check_png(png)
        _inspect_shards(path, png, json)
    else:
        if png is not None:
            raise UserError(
                "a raw file has no statistics to draw", where="--png", fix="name a folder of 'lrm prepare'"
            )
        _inspect_file(Path(path), save, json)


def _check_png(png: Path | None) -> None:
    """Say what is wrong before anything is read: that may take a while."""
    if png is not None and png.suffix.lower() != ".png":
        raise UserError(f"'{png}' is no name of a PNG file", where="--png", fix="let it end in .png")
    if png is not None and not png.parent.is_dir():
        raise UserError(f"there is no folder '{png.parent}'", where="--png", fix="check the path")


def _inspect_file(path: Path, save: Path | None, json: bool) -> None:
    from behavior.sources.guess import guess_file

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


def _inspect_shards(path: str, png: Path | None, json: bool) -> None:
    from behavior.shards.folder import open_shards

    shards = open_shards(path)
    shards.verify()
    sample = None
    if png is not None or shards.manifest.domains:
        # Matplotlib takes a while to import: only those who need it pay.
        from cli.figures import sample_events, save_png, shard_figure

        sample = sample_events(shards)
    if png is not None and sample is not None:
        save_png(shard_figure(shards, sample, facts_of(shards)), png)
    if json:
        print_json(_record(shards, sample, png))
        return
    _print_shards(shards, path)
    _print_domains(shards, sample)
    _print_features(shards.manifest)
    _print_top_items(shards)
    _print_versions(shards.manifest)
    if png is not None:
        out.print(f"drawn: {png}", markup=False, soft_wrap=True)


def _record(shards: ShardFolder, sample: EventSample | None, png: Path | None) -> dict[str, Any]:
    record = shards.manifest.model_dump(exclude={"spec"})
    record |= {"stats": shards.stats(), "top_items": _top_items(shards)}
    if shards.manifest.domains and sample is not None:
        record["domain_events"] = {
            "files_read": sample.files,
            "files": sample.of,
            "events": dict(zip(shards.manifest.domains, sample.domains.tolist(), strict=True)),
        }
    if png is not None:
        record["png"] = str(png)
    return record


def facts_of(shards: ShardFolder) -> list[tuple[str, str]]:
    """A data set in a few words: names and values; what does not apply is left out."""
    manifest, stats = shards.manifest, shards.stats()
    counts, lengths = manifest.counts, stats["sequence_length"]
    ids = ", ".join(f"{role} {kind}" for role, kind in manifest.domain_ids.items())
    rows = [
        ("users", f"{counts.users:,}"),
        ("items", f"{counts.items:,}"),
        ("events", f"{counts.events:,}"),
        ("events a user", f"{lengths['mean']:,.1f} (longest {lengths['longest']:,})"),
        ("density", _percent(stats["density"])),
        ("time", _span(stats["time"])),
        ("split", manifest.split["kind"]),
        ("users validated", f"{stats['users_validated']:,}"),
        ("users tested", f"{stats['users_tested']:,}"),
        ("targets", _some(manifest.targets)),
        ("domains", _some(manifest.domains) + (f" (ids: {ids})" if ids else "")),
        ("rows read", f"{counts.read:,}"),
        ("rejected", f"{counts.rejected:,}"),
        ("filtered", f"{counts.filtered:,}"),
        ("damaged files", f"{len(manifest.damaged_files):,}" if manifest.damaged_files else ""),
        ("sequence files", f"{len(shards.sequence_files()):,}"),
        ("version", f"{manifest.version}" if manifest.version > 1 else ""),
    ]
    return [(name, value) for name, value in rows if value]


def _print_shards(shards: ShardFolder, path: str) -> None:
    manifest, stats = shards.manifest, shards.stats()
    counts = list(manifest.counts.model_dump().items())
    rows = [*counts, ("sequence files", len(shards.sequence_files()))]
    rows += [("users validated", stats["users_validated"]), ("users tested", stats["users_tested"])]
    print_table(f"{manifest.name} in {path} (checksums right)", ("", "number"), rows)
    density = _percent(stats["density"])
    out.print(
        f"time: {_span(stats['time'])}; split: {manifest.split['kind']}; density {density}",
        markup=False,
        soft_wrap=True,
    )
    behaviors = [
        (name, number, share, "target" if name in manifest.targets else "")
        for name, number, share in _shares(stats["behaviors"])
    ]
    print_table("behaviors", ("behavior", "events", "share", ""), behaviors)
    lengths = stats["sequence_length"]
    title = f"sequence lengths (mean {lengths['mean']:.1f}, longest {lengths['longest']:,})"
    bins = {_range(entry["from"], entry["below"] - 1): entry["number"] for entry in lengths["histogram"]}
    print_table(title, ("events", "users", "share"), _shares(bins))


def _percent(share: float) -> str:
    """Three digits that count: densities may be tiny."""
    return f"{100 * share:.3g}%"


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _range(first: int, last: int) -> str:
    return f"{first:,} to {last:,}" if first < last else f"{first:,}"


def _shares(counts: dict[str, int]) -> list[tuple[str, int, str]]:
    """Name, number and share of all."""
    total = max(sum(counts.values()), 1)
    return [(name, number, f"{number / total:.1%}") for name, number in counts.items()]


def _print_domains(shards: ShardFolder, sample: EventSample | None) -> None:
    if sample is None or not shards.manifest.domains:
        return
    ids = ", ".join(f"{role} {kind}" for role, kind in shards.manifest.domain_ids.items())
    events = _shares(dict(zip(shards.manifest.domains, sample.domains.tolist(), strict=True)))
    title = f"domains{f' (ids: {ids})' if ids else ''}"
    items = shards.items()
    if "domain" not in items.column_names:
        print_table(title, ("domain", f"events{sample.note}", "share"), events)
        return
    known = Counter(items.column("domain").to_pylist())
    rows = [(name, number, share, known[name]) for name, number, share in events]
    print_table(title, ("domain", f"events{sample.note}", "share", "items"), rows)


def _print_features(manifest: Manifest) -> None:
    rows = [
        (f"{role} {feature.name}", feature.kind, feature.encoding, feature.vocabulary_size)
        for role, features in (
            ("event", manifest.event_features),
            ("item", manifest.item_features),
            ("user", manifest.user_features),
        )
        for feature in features
    ]
    if rows:
        print_table("features", ("feature", "stored as", "encoding", "ids"), rows)


def _top_items(shards: ShardFolder) -> list[dict[str, Any]]:
    """The ten most frequent items. Indices do so by themselves, but not after `--append`."""
    items = shards.items()
    order = [("count", "descending"), ("index", "ascending")]
    columns = ("index", "domain", "id", "count", "train_count")
    table = items.select([name for name in columns if name in items.column_names])
    return table.sort_by(order).slice(0, 10).to_pylist()


def _print_top_items(shards: ShardFolder) -> None:
    total = max(shards.manifest.counts.events, 1)
    rows = [
        (
            ": ".join(str(item[name]) for name in ("domain", "id") if name in item),
            item["index"],
            item["count"],
            f"{item['count'] / total:.2%}",
            item["train_count"],
        )
        for item in _top_items(shards)
    ]
    print_table("top items", ("id", "index", "events", "share", "in training"), rows)


def _print_versions(manifest: Manifest) -> None:
    if manifest.history:
        rows = [
            (entry.version, entry.counts.events, entry.counts.rejected, ", ".join(entry.files[:3]))
            for entry in manifest.history
        ]
        title = f"version {manifest.version}; what was added"
        print_table(title, ("version", "events", "rejected", "files"), rows)
    elif manifest.version > 1:
        out.print(f"version {manifest.version}, prepared as a whole", markup=False)
    if manifest.damaged_files:
        out.print(
            f"files that could not be read to their end: {_some(manifest.damaged_files)}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def _span(time: dict[str, Any]) -> str:
    if time["unit"] == "none" or time["first"] is None:
        return "none, the log's order counts"
    ticks = {"s": 1, "ms": 1_000, "us": 1_000_000}[time["unit"]]
    try:
        first, last = (datetime.fromtimestamp(time[end] / ticks, UTC) for end in ("first", "last"))
    except (OverflowError, ValueError, OSError):
        return f"{time['first']} to {time['last']} {time['unit']}"
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
