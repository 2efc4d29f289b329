"""A data set as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from behavior.quality.result import MEASURES, DataQuality
from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import Manifest
from behavior.summary.event_sample import EventSample
from behavior.summary.facts import domain_ids, shares, top_items
from behavior.summary.repeats import repeats_record
from behavior.wording import number_of


class Table(NamedTuple):
    """Rows under a title."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def counts_table(shards: ShardFolder, where: str) -> Table:
    """How many rows, events, users, items, files there are, and users with a target."""
    manifest, stats = shards.manifest, shards.stats()
    rows: list[tuple[Any, ...]] = [*manifest.counts.model_dump().items()]
    rows += [("sequence files", len(shards.sequence_files()))]
    rows += [("users validated", stats["users_validated"]), ("users tested", stats["users_tested"])]
    return Table(f"{manifest.name} in {where} (checksums right)", ("", "number"), rows)


def shard_tables(shards: ShardFolder, sample: EventSample | None = None) -> Iterator[Table]:
    """Behaviors, repeats, sequence lengths, domains, features, most frequent items, where there are any.

    Args:
        shards: the data set.
        sample: its events by domain, and repeats; without it there are no tables of these.
    """
    yield _behaviors(shards)
    if sample is not None:
        yield repeats_table(shards.manifest, sample)
    yield _lengths(shards.stats()["sequence_length"])
    if sample is not None and shards.manifest.domains:
        yield _domains(shards, sample)
    features = _features(shards.manifest)
    if features.rows:
        yield features
    coverage = coverage_table(shards.manifest)
    if coverage is not None:
        yield coverage
    yield _top_items(shards)


def quality_table(quality: DataQuality) -> Table:
    """The measures of a data set, with their intervals and what they are."""
    rows = []
    for name, estimate in quality.estimates.items():
        interval = "" if estimate.low is None else f"{estimate.low:.4f} to {estimate.high:.4f}"
        spread = quality.quantiles.get("shannon_entropy" if name == "user_entropy" else name, {})
        users = ", ".join(f"{value:.2f}" for value in spread.values())
        rows.append((name, f"{estimate.value:.4f}", interval, users, MEASURES[name]))
    counts = f"{number_of(quality.events, 'event')} of {number_of(quality.users, 'user')}"
    title = f"quality of {counts} (part: {quality.part})"
    header = ("measure", "value", f"{quality.level:.0%} interval", "10%, 50%, 90% of users", "what it is")
    return Table(title, header, rows)


def repeats_table(manifest: Manifest, sample: EventSample) -> Table:
    """How many events, and targets, have an item that their user had before, and with which behavior last."""
    names = {"events": "all events", "valid": "validation targets", "test": "test targets"}
    several = manifest.behaviors if len(manifest.behaviors) > 1 else []
    rows = [
        (
            names[name],
            row["number"],
            row["repeat"],
            _share(row["repeat"], row["number"]),
            *(row["repeat_by"][behavior] for behavior in several),
        )
        for name, row in repeats_record(sample.repeats, manifest.behaviors).items()
    ]
    title = f"repeats: the user had the item before{sample.note}"
    return Table(title, ("", "number", "repeat", "share", *(f"last: {name}" for name in several)), rows)


def coverage_table(manifest: Manifest) -> Table | None:
    """How many values each feature table and feature has; None where there are none, or it is unknown."""
    rows: list[tuple[Any, ...]] = []
    for entry in manifest.coverage:
        name = f"{entry.table} {entry.number}"
        if entry.table != "events":
            rows.append((f"{name}: rows", entry.found, entry.of, _share(entry.found, entry.of), ""))
        for feature in entry.features:
            unread = f"{feature.unread:,}, such as {feature.example}" if feature.unread else ""
            share = _share(feature.known, entry.found)
            rows.append((f"{name}: {feature.name}", feature.known, entry.found, share, unread))
    if not rows:
        return None
    return Table("coverage of features", ("of the spec", "found", "of", "share", "not read"), rows)


def _share(number: int, of: int) -> str:
    return f"{number / of:.1%}" if of else ""


def history_table(manifest: Manifest) -> Table:
    """What each version added to the data set."""
    rows = [
        (entry.version, entry.counts.events, entry.counts.rejected, ", ".join(entry.files[:3]))
        for entry in manifest.history
    ]
    title = f"version {manifest.version}; what was added"
    return Table(title, ("version", "events", "rejected", "files"), rows)


def _behaviors(shards: ShardFolder) -> Table:
    rows = [
        (name, number, share, "target" if name in shards.manifest.targets else "")
        for name, number, share in shares(shards.stats()["behaviors"])
    ]
    return Table("behaviors", ("behavior", "events", "share", ""), rows)


def _lengths(lengths: dict[str, Any]) -> Table:
    title = f"sequence lengths (mean {lengths['mean']:.1f}, longest {lengths['longest']:,})"
    bins = {_range(entry["from"], entry["below"] - 1): entry["number"] for entry in lengths["histogram"]}
    return Table(title, ("events", "users", "share"), [*shares(bins)])


def _range(first: int, last: int) -> str:
    return f"{first:,} to {last:,}" if first < last else f"{first:,}"


def _domains(shards: ShardFolder, sample: EventSample) -> Table:
    ids = domain_ids(shards.manifest)
    events = shares(dict(zip(shards.manifest.domains, sample.domains.tolist(), strict=True)))
    title = f"domains{f' (ids: {ids})' if ids else ''}"
    items = shards.items()
    if "domain" not in items.column_names:
        return Table(title, ("domain", f"events{sample.note}", "share"), [*events])
    known = Counter(items.column("domain").to_pylist())
    rows = [(name, number, share, known[name]) for name, number, share in events]
    return Table(title, ("domain", f"events{sample.note}", "share", "items"), rows)


def _features(manifest: Manifest) -> Table:
    rows = [
        (f"{role} {feature.name}", feature.kind, feature.encoding, feature.vocabulary_size)
        for role, features in (
            ("event", manifest.event_features),
            ("item", manifest.item_features),
            ("user", manifest.user_features),
        )
        for feature in features
    ]
    return Table("features", ("feature", "stored as", "encoding", "ids"), rows)


def _top_items(shards: ShardFolder) -> Table:
    total = max(shards.manifest.counts.events, 1)
    rows = [
        (
            ": ".join(str(item[name]) for name in ("domain", "id") if name in item),
            item["index"],
            item["count"],
            f"{item['count'] / total:.2%}",
            item["train_count"],
        )
        for item in top_items(shards)
    ]
    return Table("top items", ("id", "index", "events", "share", "in training"), rows)
