"""Recommendations as a batch job: what is asked is resolved once, and travels to workers with the run.

The job itself knows no models: it calls what `JobScorer` has, with whole Arrow batches.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from behavior.errors import UsageError, UserError
from behavior.shards.storage import Folder, as_folder
from behavior.sources.histories import HistoryColumns
from models.build import sequences_of
from models.gpu.config import DeviceName
from models.runs.run_folder import RunFolder
from models.serving.load import TrainedModel, Which, load_model
from models.serving.recommend.encoding import BadRow, HistoryEncoder
from models.serving.recommend.ids import Ids
from models.serving.recommend.recommend import (
    Served,
    history_columns,
    in_run_domain,
    trained_on_note,
    whole_catalog,
)
from models.serving.recommend.request import Request, Wanted, resolve
from models.serving.recommend.stream import Stream, Told
from models.serving.recommend.table import Asking
from models.serving.recommend.users import DataSetUsers
from models.serving.recommend.values import as_ids
from models.tasks.retrieval import model_scorer

_RUN, _REQUEST = "run", "request.pickle"
MISSING = "without "
"""Before the name of a feature, in counts of events and users that have no value of it."""
_COUNTED = ("by_popularity", "unsorted", "unknown_items", "asked_later", "asked_apart", "short")


@dataclass(frozen=True, eq=False)
class RecommendJob:
    """What a job is about, resolved on the machine that starts it.

    Attributes:
        run: folder of the run.
        checkpoint, data, device: as `models.load_model`.
        request: what is asked for.
        users: of the data set; None: all.
        columns: of histories.
        parts: of the data set; 0 of a job on histories.
        about: what the answers depend on, as plain values.
    """

    run: Path
    checkpoint: Which
    data: str | None
    device: DeviceName
    request: Request
    users: pa.Array | None
    columns: HistoryColumns
    parts: int
    about: dict[str, Any]

    @property
    def notes(self) -> list[str]:
        """What was decided, in words."""
        return [*self.request.when, *self.request.notes]

    def notes_after(self, counts: Mapping[str, int], users: int) -> list[str]:
        """The same, of the time of asking only if some of the users were asked then."""
        alone = 0 < users == counts.get("asked_apart")
        return self.request.notes if alone else self.notes

    def stage(self, folder: Folder) -> ScorerFactory:
        """Leave what workers need in a folder that they all see: the run's own files, and what is asked.

        A run that changes or goes away while the job runs does not matter then.

        Raises:
            UserError: the run cannot be read, or the folder not written.
        """
        source = RunFolder(self.run)
        chosen = source.best if self.checkpoint == "best" else source.last
        files = [source.marker, source.config_file, chosen]
        files += [path for path in sorted(source.dataset.rglob("*")) if path.is_file()]
        for path in files:
            _copy(path, folder, f"{_RUN}/{path.relative_to(self.run).as_posix()}")
        folder.write_bytes(_REQUEST, pickle.dumps((self.request, self.users)))
        return ScorerFactory(folder, self.checkpoint, self.data, self.device)


def recommend_job(
    model: TrainedModel,
    wanted: Wanted,
    users: Sequence[Any] | pa.Array | None = None,
    *,
    histories: bool = False,
    data: str | None = None,
    device: DeviceName = "auto",
) -> RecommendJob:
    """Resolve what is asked for, once for all workers: the time of asking for one.

    Args:
        model: as it was loaded on this machine.
        wanted: what is asked for.
        users: of the data set, ids as in the log; None: all of them.
        histories: whether it is about histories, and not about users of the data set.
        data: where the data set is, for workers, if not where it was in training.
        device: where workers compute.

    Raises:
        UserError: something that is asked for the data set does not have, or the model is not told.
    """
    if wanted.index != "exact":
        raise UsageError(
            "a job ranks all items exactly, and takes no index",
            where="--index",
            fix="leave it out, or --runner",
        )
    if wanted.rerank is not None:
        raise UsageError("a job does not rerank", where="--rerank", fix="leave it out, or --runner")
    served, ids = model.served, Ids(model.shards)
    request = resolve(wanted, served.module, served.config, served.shards, ids, served.new_items)
    note = trained_on_note(served.config)
    request = replace(request, notes=[*request.notes, *([note] if note else [])])
    chosen = None if users is None else as_ids(users, "users")
    encoder, parts = history_encoder(served, ids), 0
    if histories:
        features = encoder.features_read()
        if features:
            what = f"the model reads {', '.join(features)}: missing where histories do not say"
            request = replace(request, notes=[*request.notes, what])
    else:
        parts = _users(served, chosen, counted=True).parts
    run = RunFolder(model.run)
    path = run.best if model.checkpoint == "best" else run.last
    about = {
        "model": hashlib.sha256(path.read_bytes()).hexdigest(),
        "asked": hashlib.sha256(pickle.dumps((request, chosen), protocol=4)).hexdigest(),
        "k": request.k,
        "notes": [*request.when, *request.notes],
    }
    place = None if data is None else as_folder(data).url  # workers may run elsewhere
    return RecommendJob(
        model.run, model.checkpoint, place, device, request, chosen, encoder.names, parts, about
    )


@dataclass(frozen=True)
class ScorerFactory:
    """Makes the scorer of a process; small, so that it travels to workers.

    Attributes:
        folder: where the run and what is asked are.
        checkpoint, data, device: as `models.load_model`.
    """

    folder: Folder
    checkpoint: Which
    data: str | None
    device: DeviceName

    def __call__(self) -> JobScorer:
        kept: tempfile.TemporaryDirectory[str] | None = None
        if self.folder.is_local:
            run = self.folder.path / _RUN
        else:
            kept = tempfile.TemporaryDirectory(prefix="lrm-model-")
            run = Path(kept.name)
            for name in self.folder.names(f"{_RUN}/"):
                target = run / name.removeprefix(f"{_RUN}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                with self.folder.open(name) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
        model = load_model(run, checkpoint=self.checkpoint, data=self.data, device=self.device)
        request, users = pickle.loads(self.folder.read_bytes(_REQUEST))
        with _one_thread():  # vectors of items are made here
            return JobScorer(model, request, users, kept)


class JobScorer:
    """Recommends for whole batches of histories, and for parts of the data set; from several threads, too.

    Args:
        model: with its data set.
        request: what is asked for.
        users: of the data set; None: all.
        kept: what is to stay as long as the scorer.
    """

    def __init__(
        self, model: TrainedModel, request: Request, users: pa.Array | None = None, kept: object = None
    ) -> None:
        self.served, self.kept, self.users = model.served, kept, users
        ids = Ids(model.shards)
        self.encoder = history_encoder(self.served, ids)
        # The model is told the features of those who visit: of one batch at a time.
        self.alone = threading.Lock() if self.encoder.features.users else nullcontext()
        scorer = model_scorer(self.served.module, model.config.model)
        self.stream = Stream(request, scorer, model.config, ids, Told())

    def encode(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, list[BadRow]]:
        """See `HistoryEncoder.encode`."""
        return self.encoder.encode(rows)

    def score(self, events: pa.RecordBatch) -> tuple[pa.RecordBatch, Mapping[str, int]]:
        """Recommendations for whole histories (`HistoryEncoder.numbered`), users in their order.

        Returns:
            Rows as `lrm recommend` writes them, and counts: `users`, `empty` (for whom no item is left), and
            those of `Told`.
        """
        part = in_run_domain(self.encoder.numbered(events), self.served)
        with self.alone, _one_thread():
            [found] = self._answers(part, by_length=True)
        return found

    def part(self, number: int) -> Iterator[tuple[pa.RecordBatch, Mapping[str, int]]]:
        """The same for the users of a part of the data set, batch by batch."""
        asking = _users(self.served, self.users, counted=False).part(number)
        if asking is not None:
            with _one_thread():
                yield from self._answers(asking, by_length=False)

    def _answers(self, part: Asking, *, by_length: bool) -> Iterator[tuple[pa.RecordBatch, dict[str, int]]]:
        stream = copy(self.stream)
        stream.by_length = by_length
        stream.told = told = Told()
        before: dict[str, int] = {}
        for rows in stream.answer([part]):
            now = {name: value for name, value in asdict(told).items() if name in (*_COUNTED, "users")}
            now["empty"] = told.empty
            now |= {f"{MISSING}{name}": value for name, value in told.missing_values.items()}
            yield rows, {name: value - before.get(name, 0) for name, value in now.items()}
            before = now


def history_encoder(served: Served, ids: Ids) -> HistoryEncoder:
    """Encodes histories with all that a model wants to know of events and users."""
    layout = served.module.embedding.layout
    return HistoryEncoder(served.shards, history_columns(served), ids, layout=layout)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with the calling thread alone: workers share the machine, and sums may depend on threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _users(served: Served, users: pa.Array | None, *, counted: bool) -> DataSetUsers:
    source = sequences_of(served.shards, whole_catalog(served.config), served.columns)
    return DataSetUsers(served.shards, source, users, counted=counted)


def _copy(path: Path, folder: Folder, name: str) -> None:
    try:
        if folder.is_local:
            target = folder.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target)
            except OSError:  # another disk, or one that has no links
                shutil.copyfile(path, target)
            return
        with path.open("rb") as source, folder.create(name, checksum=False) as file:
            shutil.copyfileobj(source, file)
    except OSError as error:
        raise UserError(
            f"the run cannot be copied for workers: {error.strerror or error}",
            where=str(error.filename or path),
            fix="check the run and the output folder",
        ) from error
