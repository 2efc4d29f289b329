"""A data set in a few words and numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import Manifest
from behavior.spec.dataset_spec import TICKS_PER_SECOND
from behavior.summary.event_sample import EventSample
from behavior.summary.repeats import repeats_record


def shard_facts(shards: ShardFolder) -> list[tuple[str, str]]:
    """A data set in a few words: names and values; what does not apply is left out."""
    manifest, stats = shards.manifest, shards.stats()
    counts, lengths = manifest.counts, stats["sequence_length"]
    ids = domain_ids(manifest)
    rows = [
        ("users", f"{counts.users:,}"),
        ("items", f"{counts.items:,}"),
        ("events", f"{counts.events:,}"),
        ("events a user", f"{lengths['mean']:,.1f} (longest {lengths['longest']:,})"),
        ("density", percent(stats["density"])),
        ("time", time_span(stats["time"])),
        ("split", manifest.split["kind"]),
        ("users validated", f"{stats['users_validated']:,}"),
        ("users tested", f"{stats['users_tested']:,}"),
        ("targets", listed(manifest.targets)),
        ("domains", listed(manifest.domains) + (f" (ids: {ids})" if ids else "")),
        ("rows read", f"{counts.read:,}"),
        ("rejected", f"{counts.rejected:,}"),
        ("filtered", f"{counts.filtered:,}"),
        ("damaged files", f"{len(manifest.damaged_files):,}" if manifest.damaged_files else ""),
        ("sequence files", f"{len(shards.sequence_files()):,}"),
        ("version", f"{manifest.version}" if manifest.version > 1 else ""),
    ]
    return [(name, value) for name, value in rows if value]


def shard_record(shards: ShardFolder, sample: EventSample | None = None) -> dict[str, Any]:
    """Manifest, statistics, most frequent items, and of a sample repeats and events by domain."""
    record = shards.manifest.model_dump(exclude={"spec"})
    record |= {"stats": shards.stats(), "top_items": top_items(shards)}
    if sample is not None:
        record["repeats"] = {
            "files_read": sample.files,
            "files": sample.of,
            **repeats_record(sample.repeats, shards.manifest.behaviors),
        }
    if shards.manifest.domains and sample is not None:
        record["domain_events"] = {
            "files_read": sample.files,
            "files": sample.of,
            "events": dict(zip(shards.manifest.domains, sample.domains.tolist(), strict=True)),
        }
    return record


def top_items(shards: ShardFolder) -> list[dict[str, Any]]:
    """The ten most frequent items. Indices do so by themselves, but not after `--append`."""
    items = shards.items()
    order = [("count", "descending"), ("index", "ascending")]
    columns = ("index", "domain", "id", "count", "train_count")
    table = items.select([name for name in columns if name in items.column_names])
    return table.sort_by(order).slice(0, 10).to_pylist()


def shares(counts: dict[str, int]) -> list[tuple[str, int, str]]:
    """Name, number and share of all."""
    total = max(sum(counts.values()), 1)
    return [(name, number, f"{number / total:.1%}") for name, number in counts.items()]


def domain_ids(manifest: Manifest) -> str:
    """Whether domains have ids in common, in words; empty without domains."""
    return ", ".join(f"{role} {kind}" for role, kind in manifest.domain_ids.items())


def percent(share: float) -> str:
    """Three digits that count: densities may be tiny."""
    return f"{100 * share:.3g}%"


def listed(names: list[str], most: int = 8) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def time_span(time: dict[str, Any]) -> str:
    """From when to when, of the `time` in stats.json."""
    if time["unit"] == "none" or time["first"] is None:
        return "none, the log's order counts"
    ticks = TICKS_PER_SECOND[time["unit"]]
    try:
        first, last = (datetime.fromtimestamp(time[end] / ticks, UTC) for end in ("first", "last"))
    except (OverflowError, ValueError, OSError):
        return f"{time['first']} to {time['last']} {time['unit']}"
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
