"""What `--append` adds to a finished data set: which files are new, and what must be prepared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from behavior.errors import UserError
from behavior.features.coverage import merged_coverage
from behavior.features.frozen import frozen as frozen_spec
from behavior.flow.manifest import build_manifest
from behavior.flow.new_files import all_groups, found_files, group_files, not_there_yet, place, with_files
from behavior.flow.preparation import Preparation, count_partitions
from behavior.flow.previous import Previous, flag_for_adding, reasons_against
from behavior.flow.totals import Summary
from behavior.shards.commit import commit, mark, sweep
from behavior.shards.damage import damaged
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.manifest import Counts, FileEntry, HistoryEntry, InputRecord, Manifest
from behavior.shards.names import REJECTED, logical
from behavior.shards.owned import check_output
from behavior.shards.storage import Folder
from behavior.sources.chunks import Plan
from behavior.spec.dataset_spec import DatasetSpec
from behavior.spec.record import same_but_files

_ADDED_UP = ("read", "accepted", "rejected", "filtered", "events")


PlanOf = Callable[[DatasetSpec], Plan]
"""Plans the input of a spec, in chunks that suit who reads them."""


@dataclass(frozen=True)
class Addition:
    """What is to be added to a data set, whose folder is claimed.

    Attributes:
        preparation: what is to be prepared.
        spec: that the data set was made by; that of the preparation may be frozen.
        digest: of all input, old and new.
        old: the manifest of the data set as it is.
        entry: of the manifest's history; its counts are still to come.
    """

    preparation: Preparation
    spec: DatasetSpec
    digest: str
    old: Manifest
    entry: HistoryEntry

    def manifest(self, summary: Summary) -> Manifest:
        """The manifest of the data set with what was added."""
        preparation, old = self.preparation, self.old
        counts, files, damaged, coverage = summary.counts, summary.files, summary.damaged, summary.coverage
        added = counts
        if preparation.previous is not None:
            totals = {name: getattr(old.counts, name) + getattr(counts, name) for name in _ADDED_UP}
            counts = Counts(**totals, users=added.users, items=added.items)
            files = _merged_files(old, summary.files)
            damaged = list(dict.fromkeys([*old.damaged_files, *damaged]))
            coverage = merged_coverage(old.coverage, coverage)
        else:
            added = _difference(counts, old.counts)
        return build_manifest(
            self.spec,
            self.digest,
            counts,
            summary.features,
            files,
            partitions=preparation.partitions,
            version=preparation.version,
            damaged=damaged,
            history=[*old.history, self.entry.model_copy(update={"counts": added})],
            # One of an earlier version does not name its files; a part of them would be taken for all.
            plan=None if preparation.previous is not None and not old.inputs else preparation.plan,
            inputs=old.inputs if preparation.previous is not None else [],
            coverage=coverage,
        )


@dataclass(frozen=True)
class NothingToRead:
    """An addition for which no event is to be read.

    Attributes:
        manifest: of the data set, complete.
        done_before: whether it had all files already; else they are empty, and were added.
    """

    manifest: Manifest
    done_before: bool


def plan_addition(
    spec: DatasetSpec,
    base: str,
    out: Folder,
    files: Sequence[str],
    plan_of: PlanOf,
    *,
    full: bool = False,
    frozen: bool = False,
    skip_bad_files: bool = False,
) -> Addition | NothingToRead:
    """Find out what is to be added to a data set, and claim its folder. See `pipelines.append.append`.

    Args:
        spec: the spec that the data set was made by.
        base: folder its paths are relative to, absolute.
        out: the data set, held by the caller (`behavior.shards.lock.exclusive`).
        files: paths or globs of the new files; see `group_files`.
        plan_of: plans the input.
        full: prepare everything from scratch, from the old and new files.
        frozen: keep means, standard deviations and quantiles as they are.
        skip_bad_files: set event files aside that cannot be read at all.

    Raises:
        UserError: no such data set, another spec, one that does not allow it, or files that cannot be read;
            without `full` also files of which some are there already, or have changed since; with it, files
            of the data set that neither the spec nor `files` names.
    """
    shards = open_shards(out)
    old = shards.manifest
    _check(spec, old, str(out), full=full, frozen=frozen)
    added = with_files(spec, group_files(spec, files))
    found = found_files(added, base)
    check_output(out, [place(record, base)[1] for record in found])
    used = spec
    new = not_there_yet(found, old, base, full)
    if not new:
        sweep(out)
        return NothingToRead(old, True)
    if full:
        plan = plan_of(with_files(spec, all_groups(spec, old, found, new, base)))
        partitions, previous = count_partitions(spec, plan), None
    elif not any(record.size for record in new):
        return NothingToRead(_add_nothing(out, old, new), False)
    else:
        plan = _with_stored_types(plan_of(added), spec, shards)
        assert old.buckets is not None
        used = frozen_spec(spec, old) if frozen else spec
        partitions, previous = old.buckets, Previous.of(out, used)
    if _added_before(old, plan.digest):
        sweep(out)
        return NothingToRead(old, True)
    entry, digest = _entry(old, new, plan.digest)
    check_output(out, [file.path for file in plan.files])
    mark(out, {"spec_digest": spec.digest(), "input_digest": digest})
    preparation = Preparation(used, base, plan, out, partitions, entry.version, previous, skip_bad_files)
    return Addition(preparation, spec, digest, old, entry)


def _added_before(old: Manifest, digest: str) -> bool:
    """Whether files were added to a data set of an earlier version, which does not name all it has."""
    return not old.inputs and any(entry.input_digest == digest for entry in old.history)


def _entry(old: Manifest, new: list[InputRecord], added_digest: str) -> tuple[HistoryEntry, str]:
    """The entry of an addition, its counts still to come, and the digest of all input."""
    files = [f"{record.group}={record.path}" for record in new]
    entry = HistoryEntry(version=old.version + 1, input_digest=added_digest, counts=old.counts, files=files)
    return entry, hashlib.sha256(f"{old.input_digest} {added_digest}".encode()).hexdigest()


def _add_nothing(out: Folder, old: Manifest, new: list[InputRecord]) -> Manifest:
    """Add files without a byte: only the manifest changes."""
    text = json.dumps([[record.path, record.size, record.modified] for record in new])
    entry, digest = _entry(old, new, hashlib.sha256(text.encode()).hexdigest())
    none = Counts(**dict.fromkeys(_ADDED_UP, 0), users=old.counts.users, items=old.counts.items)
    changes = {
        "version": entry.version,
        "input_digest": digest,
        "inputs": [*old.inputs, *new] if old.inputs else [],
        "history": [*old.history, entry.model_copy(update={"counts": none})],
    }
    manifest = old.model_copy(update=changes)
    commit(out, manifest)
    return manifest


def _with_stored_types(plan: Plan, spec: DatasetSpec, shards: ShardFolder) -> Plan:
    """The plan of the new files, with the types of ids under which the data set was read.

    Raises:
        UserError: it was made by an earlier version and does not tell.
    """
    return replace(plan, user_type=_id_type("user", spec, shards), item_type=_id_type("item", spec, shards))


def _id_type(role: str, spec: DatasetSpec, shards: ShardFolder) -> str:
    kept = shards.manifest.id_types.get(role)
    if kept is not None:
        return kept
    # Made by an earlier version.
    setting: str = getattr(spec.id_types, role)
    if setting != "auto":
        return setting
    if role == "item" and spec.vocabulary.hash_size is not None:
        raise UserError(
            "the data set was made by an earlier version, which did not keep the type of its item ids",
            where="--append",
            fix="add --full, which prepares old and new files together from scratch",
        )
    return _stored_type(shards.users() if role == "user" else shards.items())


def _stored_type(table: pa.Table) -> str:
    return "integer" if pa.types.is_integer(table.schema.field("id").type) else "string"


def _check(spec: DatasetSpec, old: Manifest, folder: str, *, full: bool, frozen: bool) -> None:
    if old.spec_digest != spec.digest():
        what, fix = "another spec", "use the spec it was made by"
        if same_but_files(old.spec, spec.record()):
            what = "this spec with other 'files'"
            fix = "leave 'files' in the spec as it was: --append alone names what is added"
        raise UserError(
            f"'{folder}' was made by {what}",
            where="SPEC",
            fix=f"{fix}; or prepare everything from scratch in another folder",
        )
    reasons = [] if full else reasons_against(spec, frozen=frozen)
    if reasons:
        fix = "add --full, which prepares old and new files together from scratch"
        if flag_for_adding(spec) == "--frozen":
            fix = f"add --frozen, which keeps the numbers fitted for the first version; or {fix}"
        raise UserError(
            "nothing can be added under this spec, since old rows would change: " + "; ".join(reasons),
            where="--append",
            fix=fix,
        )
    if old.buckets is None and not full:
        raise UserError(
            f"'{folder}' was made by an earlier version that did not keep what adding needs",
            where="--append",
            fix="add --full, which prepares old and new files together from scratch",
        )
    if not full:
        _check_features(spec, old, folder)


def _check_features(spec: DatasetSpec, old: Manifest, folder: str) -> None:
    """Encoders are made of what the spec and the manifest say of a feature."""
    for role in ("item", "user", "event"):
        named = sorted(entry.name for entry in getattr(old, f"{role}_features"))
        expected = sorted(feature.name for feature in getattr(spec, f"{role}_features"))
        if named != expected:
            what = (
                f"the manifest names {', '.join(named) or 'none'}, the spec {', '.join(expected) or 'none'}"
            )
            raise damaged(f"{role} features", what, folder)


def _difference(counts: Counts, old: Counts) -> Counts:
    """What a full preparation has more than before."""
    more = {name: getattr(counts, name) - getattr(old, name) for name in _ADDED_UP}
    return Counts(**more, users=counts.users, items=counts.items)


def _merged_files(old: Manifest, new: list[FileEntry]) -> list[FileEntry]:
    """New files, and the old ones that none of them replaces."""
    replaced = {logical(entry.path) for entry in new} | {f"{REJECTED}/tables.jsonl"}
    return [entry for entry in old.files if logical(entry.path) not in replaced] + new
