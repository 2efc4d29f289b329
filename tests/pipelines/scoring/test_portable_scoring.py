"""The scoring pipeline as remote runners get it."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.transforms.environments import DockerEnvironment

from behavior.errors import UserError
from behavior.shards.storage import Folder
from pipelines.runner import RunnerOptions
from pipelines.scoring.pieces import Piece, Spill, read_pieces
from pipelines.scoring.run import DataSetIn, HistoriesIn, score
from pipelines.scoring.scorer import ScoringJob
from tests.pipelines.scoring.counting import COLUMNS, Stage
from tests.pipelines.test_portable import PRIMITIVES, ROOT, CapturedError, leaves, pickled, strings

REMOTE = RunnerOptions("PortableRunner", beam=["--job_endpoint=embed"])


def proto_of(given: HistoriesIn | DataSetIn, out: Path, monkeypatch: pytest.MonkeyPatch) -> api.Pipeline:
    found: list[api.Pipeline] = []

    def capture(pipeline: beam.Pipeline, *_: object, **__: object) -> None:
        environment = DockerEnvironment.from_container_image("worker")
        found.append(pipeline.to_runner_api(default_environment=environment))
        raise CapturedError

    with monkeypatch.context() as patch:
        patch.setattr(beam.Pipeline, "run", capture)
        with pytest.raises(UserError, match="CapturedError"):
            score(given, out, Stage(), {}, runner=REMOTE)
    return found[0]


def test_standard_transforms_alone_and_code_by_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(500):
        (tmp_path / "in" / f"{number}.csv").write_text("user,item,timestamp\na,1,2\n")
    histories = HistoriesIn(str(tmp_path / "in"), COLUMNS)
    for number, given in enumerate((histories, DataSetIn(3))):
        proto = proto_of(given, tmp_path / f"out{number}", monkeypatch)
        assert {transform.spec.urn for _, transform in leaves(proto)} <= PRIMITIVES
        for urn, pickles in pickled(proto).items():
            for pickle in pickles:
                ours = [text for text in strings(pickle) if text.startswith(f"{ROOT}/pipelines/")]
                assert not ours, urn
        assert proto.ByteSize() < 150_000 + 200 * 500


def test_no_event_goes_through_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces say where events are: a busy user makes files longer, and elements not."""
    import pickle

    import pyarrow as pa

    monkeypatch.setattr("pipelines.scoring.pieces.SPILL_BYTES", 1 << 20)
    work = Folder(str(tmp_path))
    spill = Spill(ScoringJob(work, work, work), 7, 3)
    pieces: list[tuple[int, Piece]] = []
    batches = [
        pa.RecordBatch.from_pydict(
            {"user": ["busy"] * 50_000 + [f"u{start}"], "item": list(range(start, start + 50_001))}
        )
        for start in range(0, 500_000, 50_000)
    ]
    for batch in batches:
        pieces += spill.add(batch)
    pieces += spill.flush()
    assert max(len(pickle.dumps(piece)) for piece in pieces) < 400
    parts = {part for part, _ in pieces}
    found = [read_pieces(work, [piece for part, piece in pieces if part == one]) for one in parts]
    assert sum(table.num_rows for table in found) == 500_010
    [busy] = [table for table in found if "busy" in table["user"].to_pylist()]
    items = [row["item"] for row in busy.to_pylist() if row["user"] == "busy"]
    assert items == [item for start in range(0, 500_000, 50_000) for item in range(start, start + 50_000)]
