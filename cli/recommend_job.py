"""`lrm recommend --runner`: the same as a Beam job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from behavior.errors import UsageError
from behavior.wording import number_of
from cli.console import note, print_json, progress_bars, say, warn
from cli.interrupted import AGAIN, advised
from cli.rejects import limit_of

if TYPE_CHECKING:
    import pyarrow as pa

    from models.gpu.config import DeviceName
    from models.serving.load import TrainedModel
    from models.serving.recommend.job import RecommendJob
    from pipelines.scoring.run import DataSetIn, HistoriesIn, ScoreResult

_STAGES = {"read": "reading", "score": "scoring"}
_COUNTS = {
    "by_popularity": "without a history that the model is shown: what is popular, marked in 'answer'",
    "unsorted": "with events out of order of time, which were sorted",
    "asked_apart": "asked at times of their own, in the column 'at'",
    "asked_later": "with events after the time of asking: asked at the last one",
    "short": "for whom fewer items were left",
    "empty": "for whom none was left",
}


@dataclass(frozen=True)
class JobFlags:
    """Flags of a job."""

    runner: str | None
    workers: int
    beam: list[str]
    max_rejects: str | None
    overwrite: bool
    data: str | None
    device: DeviceName
    worker_timeout: float | None = None

    def check(self, out: str | None) -> None:
        """
        Raises:
            UsageError: some go with `--runner` alone, which wants `--out`.
        """
        if self.runner is not None:
            if out is None:
                raise UsageError("a job writes a folder", where="--runner", fix="name one: --out DIR")
            return
        given = {
            "--workers": bool(self.workers),
            "--worker-timeout": self.worker_timeout is not None,
            "--max-rejects": self.max_rejects is not None,
            "--overwrite": self.overwrite,
            " ".join(self.beam[:1]): bool(self.beam),
        }
        for flag, there in given.items():
            if there:
                raise UsageError(
                    f"{flag} goes with --runner", where=flag, fix="add --runner local, or leave it out"
                )


def recommend_on_beam(
    model: TrainedModel,
    wanted: dict[str, Any],
    users: pa.Array | None,
    histories: str | None,
    out: str,
    flags: JobFlags,
    *,
    json: bool,
) -> None:
    """Run the job, and say what it did.

    Args:
        model: as it was loaded here.
        wanted: what is asked for, see `models.serving.recommend.request.Wanted`.
        users: of the data set; None: all.
        histories: of other people instead.
        out: folder for the result.
        flags: how it is run.
        json: say it as JSON.
    """
    from models.serving.recommend.job import recommend_job
    from models.serving.recommend.request import Wanted
    from pipelines.runner import RunnerOptions
    from pipelines.scoring.run import score

    runner = RunnerOptions(
        flags.runner or "local", flags.workers, flags.beam, say=note, worker_timeout=flags.worker_timeout
    )
    runner.check()
    if histories is None:  # which workers read in the data set itself
        runner.check_reachable(str(model.shards.folder), "--data")
    job = recommend_job(
        model, Wanted(**wanted), users, histories=histories is not None, data=flags.data, device=flags.device
    )
    with progress_bars(quiet=json) as bars:
        tasks = {name: bars.add_task(label, total=None, note="") for name, label in _STAGES.items()}

        def progress(stage: str, done: int, total: int) -> None:
            bars.update(tasks[stage], completed=done, total=total)

        with advised(AGAIN):
            result = score(
                _given(job, histories, flags),
                out,
                job.stage,
                job.about,
                runner=runner,
                overwrite=flags.overwrite,
                progress=progress,
            )
    if json:
        manifest = {name: value for name, value in result.manifest.items() if name != "files"}
        about = {"out": out, "trained_on": model.config.loader.part}
        print_json({**about, "done_before": result.done_before, "seconds": result.seconds, **manifest})
        return
    users = result.manifest["users"]
    for text in job.notes_after(result.manifest["counts"], users["in"] - users["rejected"]):
        note(text)
    _say(result, out)


def _given(job: RecommendJob, histories: str | None, flags: JobFlags) -> HistoriesIn | DataSetIn:
    from pipelines.scoring.run import DataSetIn, HistoriesIn

    if histories is None:
        if flags.max_rejects is not None:
            raise UsageError("rows of a data set are all good", where="--max-rejects", fix="leave it out")
        return DataSetIn(job.parts)
    limit = 0 if flags.max_rejects is None else limit_of(flags.max_rejects)
    return HistoriesIn(histories, job.columns, limit)


def _say(result: ScoreResult, out: str) -> None:
    from models.serving.recommend.job import MISSING

    rows, users, counts = (result.manifest[name] for name in ("rows", "users", "counts"))
    if result.done_before:
        say(f"'{out}' already holds these recommendations: nothing to do")
    say(f"{number_of(rows['written'], 'recommendation')} for {number_of(users['in'], 'user')}: {out}")
    tell_counts(users["in"], counts)
    tell_missing({name.removeprefix(MISSING): n for name, n in counts.items() if name.startswith(MISSING)})
    if rows["rejected"]:
        what = f"{rows['rejected']:,} of {number_of(rows['read'], 'row was', 'rows were')} rejected"
        warn(f"{what}, and with them {number_of(users['rejected'], 'user')}: {out}/rejected says why")


def tell_counts(users: int, counts: Mapping[str, int]) -> None:
    """What became of some of the users."""
    for name, words in _COUNTS.items():
        if counts.get(name):
            note(f"{counts[name]:,} of {number_of(users, 'user')} {words}")
    if counts.get("unknown_items"):
        unknown = counts["unknown_items"]
        warn(
            f"{number_of(unknown, 'event of histories has an item', 'events of histories have items')} "
            "that the data set does not know"
        )


def tell_missing(missing: Mapping[str, int]) -> None:
    """Which features have no value, and of how many events or users."""
    if missing:
        shown = ", ".join(f"{name} ({count:,})" for name, count in sorted(missing.items()))
        warn(f"the model reads what histories do not say, which is taken as missing: {shown}")
