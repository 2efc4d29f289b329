"""Data quality on Beam: the very result of one machine, on any number of workers."""

from __future__ import annotations

import json
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.transforms.environments import DockerEnvironment

import behavior.quality
from behavior.errors import UserError
from pipelines.quality import MergeCounts, measure_quality
from pipelines.runner import RunnerOptions
from tests.behavior.quality.shop import make_log, prepared
from tests.pipelines.test_portable import PRIMITIVES, CapturedError, leaves


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return prepared(tmp_path_factory.mktemp("quality") / "shop", make_log(600))


@pytest.mark.parametrize("part", ["train", "all"])
def test_the_same_as_on_one_machine(shards: Path, tmp_path: Path, part: str) -> None:
    found = measure_quality(shards, tmp_path, part, runner=RunnerOptions(workers=1), replicates=20, seed=3)
    assert found == behavior.quality.measure_quality(shards, part, replicates=20, seed=3)
    assert json.loads((tmp_path / "quality.json").read_text()) == found.to_record()


def test_a_data_set_without_events_in_the_part_is_told(tmp_path: Path) -> None:
    # A global split so early that nothing is before it.
    log = make_log(50)
    split = {"kind": "temporal", "valid_at": 900, "test_at": 901}
    shards = prepared(tmp_path / "shop", log, split=split)
    for measure in (
        lambda: measure_quality(shards, tmp_path / "out", runner=RunnerOptions(workers=1)),
        lambda: behavior.quality.measure_quality(shards),
    ):
        with pytest.raises(UserError, match="there are no events of known items to measure"):
            measure()


def test_counts_of_any_workers_add_up() -> None:
    merge = MergeCounts()
    one = merge.add_input(merge.create_accumulator(), (np.array([1, 3]), np.array([5, 2]), 4))
    two = merge.add_input(one.copy(), (np.array([0, 3]), np.array([1, 1]), 4))
    for given in ([one, two], [merge.create_accumulator(), one, two], [two, merge.create_accumulator(), one]):
        assert merge.merge_accumulators(given).tolist() == [1, 10, 0, 5]
    assert merge.merge_accumulators([]).tolist() == []
    assert one.tolist() == [0, 5, 0, 2]  # what was given is not changed


def test_standard_transforms_alone(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[api.Pipeline] = []

    def capture(pipeline: beam.Pipeline, *_: object, **__: object) -> None:
        environment = DockerEnvironment.from_container_image("worker")
        found.append(pipeline.to_runner_api(default_environment=environment))
        raise CapturedError

    monkeypatch.setattr(beam.Pipeline, "run", capture)
    runner = RunnerOptions("PortableRunner", beam=["--job_endpoint=embed"])
    with pytest.raises(UserError, match="CapturedError"):
        measure_quality(shards, tmp_path, runner=runner)
    assert {transform.spec.urn for _, transform in leaves(found[0])} <= PRIMITIVES
