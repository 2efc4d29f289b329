"""Clusters for the tests, one of each engine a session; all of it skipped where they are not installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.engines import cloud
from tests.engines.cloud import Cloud
from tests.engines.flink import FlinkCluster
from tests.engines.installed import missing
from tests.engines.kills import told
from tests.engines.prism import PrismServer
from tests.engines.spark import SparkCluster

HERE = Path(__file__).parent
Cluster = FlinkCluster | SparkCluster | PrismServer
# Half the time of a small job goes into compiling Java well, and into threads that clear its memory.
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
ENGINES: dict[str, Callable[[Path], Cluster]] = {
    "prism": PrismServer,
    # A worker beside each task manager, and no more than two, which are what takes the time.
    "flink": partial(
        FlinkCluster, parallelism=2, settings={"cluster.evenly-spread-out-slots": "true"}, java=QUICK
    ),
    "spark": partial(SparkCluster, java=QUICK),
}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder, and skip them where there are no engines.

    Those of one engine come together: a cluster is started once, and there is one at a time.
    """
    reason = missing()
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.engine)
        item.add_marker(pytest.mark.xdist_group("engine"))  # one cluster at a time
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
    ours.sort(key=_engine_of)
    items[:] = [item for item in items if HERE not in item.path.parents] + ours


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of Flink alone share its cluster with the others."""
    if "flink" in metafunc.fixturenames:
        alone = pytest.mark.parametrize("engine", ["flink"], indirect=True, scope="session")
        metafunc.definition.add_marker(alone)


def _engine_of(item: pytest.Item) -> str:
    found = getattr(item, "callspec", None)
    return str(found.params.get("engine", "")) if found else ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """The ends of a cluster's logs with each failure; whole they stay in the test's folder for a while."""
    report = yield
    used = getattr(item, "funcargs", {})
    cluster = used.get("engine", used.get("google"))
    if report.failed and cluster is not None and HERE in item.path.parents:
        report.sections.append(("logs of the engine", cluster.processes.logs()))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What became of each kill."""
    lines = told(terminalreporter)
    if lines:
        terminalreporter.section("kills")
        terminalreporter.write("\n".join([*lines, ""]))


@contextmanager
def running(kind: Callable[[Path], Any], folder: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A cluster, or something else that runs; its logs are shown where it does not start."""
    cluster = kind(folder)
    try:
        try:
            cluster.wait()
        except BaseException:
            print(cluster.processes.logs())
            raise
        yield cluster
    finally:
        cluster.end()


@pytest.fixture(scope="session", params=list(ENGINES))
def engine(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Each engine: Flink with two task managers of 1 GB and two slots each, Spark with two workers, Prism."""
    with running(ENGINES[request.param], tmp_path_factory.mktemp(request.param), request) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """Storage, Dataflow's job API and what runs its jobs; this process finds the storage meanwhile."""
    if reason := cloud.missing():
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("google")
        with running(Cloud, folder, request) as found:
            for name, value in found.variables.items():
                patch.setenv(name, value)
            import gcsfs  # which looks at the environment
            from apache_beam.runners.dataflow import dataflow_runner

            # Beam asks the service every five seconds how a job does.
            patch.setattr(
                dataflow_runner, "time", SimpleNamespace(sleep=lambda _: time.sleep(0.1), time=time.time)
            )
            gcsfs.GCSFileSystem.clear_instance_cache()
            yield found
            gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture
def flink(engine: FlinkCluster) -> FlinkCluster:
    """Flink alone."""
    return engine


@pytest.fixture(autouse=True)
def whole(request: pytest.FixtureRequest) -> None:
    """Whatever a test has done to a cluster, the next one finds it whole and idle."""
    if "engine" in request.fixturenames:
        request.getfixturevalue("engine").mend()
