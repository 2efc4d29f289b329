"""The pipeline as remote runners get it: nothing in it may depend on this process or on one runner."""

from __future__ import annotations

import base64
import bz2
import json
import pickletools
import subprocess
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.runners.portability.portable_runner import PipelineResult
from apache_beam.transforms.environments import DockerEnvironment
from google.protobuf.wrappers_pb2 import BytesValue

import pipelines
from behavior.errors import UserError
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.pipelines import servers
from tests.pipelines.conftest import HEADER, make_spec
from tests.pipelines.test_prepare import contents

ROOT = Path(pipelines.__file__).parent.parent
# What every portable runner must know; other leaves would be transforms of one runner.
PRIMITIVES = {
    "beam:transform:impulse:v1",
    "beam:transform:pardo:v1",
    "beam:transform:group_by_key:v1",
    "beam:transform:flatten:v1",
}


class CapturedError(Exception):
    """Ends a run before the runner gets the pipeline."""


def proto_of(raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> api.Pipeline:
    """The pipeline that `prepare` hands to a remote runner."""
    found: list[api.Pipeline] = []

    def capture(pipeline: beam.Pipeline, *_: object, **__: object) -> None:
        environment = DockerEnvironment.from_container_image("worker")
        found.append(pipeline.to_runner_api(default_environment=environment))
        raise CapturedError

    runner = RunnerOptions("PortableRunner", beam=["--job_endpoint=embed"])
    with monkeypatch.context() as patch:
        patch.setattr(beam.Pipeline, "run", capture)
        with pytest.raises(UserError, match="CapturedError"):
            prepare(make_spec(**changes), str(raw), out, runner=runner)
    return found[0]


@pytest.fixture
def proto(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> api.Pipeline:
    """Of a job that has every stage: minimum counts add one."""
    return proto_of(raw, tmp_path / "out", monkeypatch, filters={"min_user_events": 2})


def leaves(proto: api.Pipeline) -> Iterator[tuple[str, api.PTransform]]:
    """What a runner must run itself: all but composites, be they empty (what goes in comes out)."""
    for transform in proto.components.transforms.values():
        if not transform.subtransforms and not set(transform.outputs.values()) <= set(
            transform.inputs.values()
        ):
            yield transform.unique_name, transform


def messages(value: Any) -> Iterator[Any]:
    """A protobuf message and all within it, payloads of known kinds included."""
    yield value
    for field, content in value.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            parts = list(content.values())
        else:
            parts = list(content) if isinstance(content, Sequence) else [content]
        for part in parts:
            if hasattr(part, "ListFields"):
                yield from messages(part)
    for urn, kind in ((":pardo:", api.ParDoPayload), (":combine_", api.CombinePayload)):
        if isinstance(value, api.FunctionSpec) and urn in value.urn and value.payload:
            yield from messages(kind.FromString(value.payload))


def pickled(proto: api.Pipeline) -> dict[str, list[bytes]]:
    """Kind (the URN) -> the pickles of all functions, windows and coders in a pipeline."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for spec in messages(proto):
        if isinstance(spec, api.FunctionSpec) and "pickled" in spec.urn and spec.payload:
            found[spec.urn].append(unpacked(spec.payload))
    return found


def unpacked(payload: bytes) -> bytes:
    """The pickle in a payload: Beam wraps some of them, and puts the name of a coder before it."""
    if payload.startswith(b"\n"):
        payload = BytesValue.FromString(payload).value
    _, dollar, rest = payload.rpartition(b"$")
    return zlib.decompress(base64.b64decode(rest)) if dollar else bz2.decompress(base64.b64decode(payload))


def strings(pickle: bytes) -> set[str]:
    """All strings of a pickle."""
    return {value for _, value, _ in pickletools.genops(pickle) if isinstance(value, str)}


def test_only_portable_primitives(proto: api.Pipeline) -> None:
    found = {transform.spec.urn for _, transform in leaves(proto)}
    assert found <= PRIMITIVES
    assert found >= {"beam:transform:pardo:v1", "beam:transform:group_by_key:v1"}


def test_no_state_timers_or_splits(proto: api.Pipeline) -> None:
    """Runners differ in these; bundle finalization and time-sorted input too."""
    for name, transform in leaves(proto):
        if transform.spec.urn == "beam:transform:pardo:v1":
            payload = api.ParDoPayload.FromString(transform.spec.payload)
            assert not payload.requests_finalization, name
            assert not payload.requires_time_sorted_input, name
            assert not payload.state_specs, name
            assert not payload.timer_family_specs, name
            assert not payload.restriction_coder_id, name


def test_payloads_unpickle_where_only_the_packages_are(proto: api.Pipeline, tmp_path: Path) -> None:
    found = pickled(proto)
    assert {"beam:dofn:pickled_python_info:v1", "beam:combinefn:pickled_python:v1"} <= set(found)
    texts = [base64.b64encode(pickle).decode() for pickles in found.values() for pickle in pickles]
    code = (
        "import base64, json, sys\n"
        "import apache_beam\n"  # which makes itself ready for what it pickles
        "from apache_beam.internal import cloudpickle_pickler\n"
        "for text in json.load(sys.stdin):\n"
        "    cloudpickle_pickler._loads(base64.b64decode(text))\n"
        "    print('loaded')\n"
    )
    # Isolated: no PYTHONPATH, and neither this folder nor the tests can be imported.
    command = [sys.executable, "-I", "-c", code]
    shown = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split() == ["loaded"] * len(texts)


def test_nothing_of_ours_is_pickled_by_value(proto: api.Pipeline) -> None:
    """Code that travels by reference is the code that is installed on the workers."""
    ours = tuple(f"{ROOT}/{package}/" for package in ("behavior", "pipelines", "cli", "tests"))
    for urn, pickles in pickled(proto).items():
        for pickle in pickles:
            found = strings(pickle)
            assert "__main__" not in found, urn
            assert not [text for text in found if text.startswith(("tests.", *ours))], urn


def test_size_with_thousands_of_files(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is to read travels once, and not with every transform."""
    small = proto_of(raw, tmp_path / "out", monkeypatch).ByteSize()
    many = tmp_path / "many"
    many.mkdir()
    for number in range(4000):
        (many / f"part-{number:05d}.csv").write_text(f"{HEADER}\nu{number % 7},i1,view,1\n")
    large = proto_of(many, tmp_path / "out2", monkeypatch).ByteSize()
    assert small < 200_000
    assert large - small < 50 * 4000


@pytest.fixture
def worker_pool(tmp_path: Path) -> Iterator[str]:
    """The address of a service that starts worker processes."""
    with servers.worker_pool(tmp_path) as address:
        yield address


def test_a_job_takes_longer_than_its_job_server_to_answer(
    raw: Path, tmp_path: Path, worker_pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beam would give up a job on Prism after these seconds, by default after five minutes."""
    out, states = tmp_path / "out", []

    def slow(result: Any) -> Any:
        time.sleep(2.5)  # the answer has begun, and cannot end before
        states.append(wait(result))
        return states[-1]

    wait = PipelineResult.wait_until_finish
    monkeypatch.setattr(PipelineResult, "wait_until_finish", slow)
    with servers.job_server(tmp_path) as server:
        options = [f"--job_endpoint={server}", "--job_server_timeout=2"]
        options += ["--environment_type=EXTERNAL", f"--environment_config={worker_pool}"]
        prepare(make_spec(), str(raw), out, runner=RunnerOptions("PortableRunner", beam=options))
    assert states == ["DONE"]
    assert (out / "manifest.json").exists()


@pytest.mark.parametrize("shuffle", ["files", "engine"])
def test_a_job_through_the_portable_interfaces(raw: Path, tmp_path: Path, shuffle: str) -> None:
    """Job service, workers of another process that know only what is installed: the same bytes.

    One time the pool starts Beam's worker by itself, the other time `lrm-worker`.
    """
    local = prepare(make_spec(), str(raw), tmp_path / "local")
    program = servers.lrm_worker(tmp_path) if shuffle == "engine" else None
    with servers.worker_pool(tmp_path, program) as pool:
        options = ["--job_endpoint=embed", "--environment_type=EXTERNAL", f"--environment_config={pool}"]
        runner = RunnerOptions("PortableRunner", beam=options, shuffle=shuffle)
        remote = prepare(make_spec(), str(raw), tmp_path / "remote", runner=runner)
    assert remote.manifest == local.manifest
    assert contents(tmp_path / "remote") == contents(tmp_path / "local")
