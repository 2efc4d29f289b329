"""Clusters for the tests of a module, and all of it skipped where the engines are not installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.engines import cloud
from tests.engines.cloud import Cloud
from tests.engines.flink import FlinkCluster
from tests.engines.installed import missing
from tests.engines.prism import PrismServer
from tests.engines.spark import SparkCluster

HERE = Path(__file__).parent
Cluster = FlinkCluster | SparkCluster | PrismServer | Cloud
ENGINES: dict[str, type[Cluster]] = {"prism": PrismServer, "flink": FlinkCluster, "spark": SparkCluster}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder, and skip them where there are no engines."""
    reason = missing()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.engine)
            item.add_marker(pytest.mark.xdist_group("engine"))  # one cluster at a time
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@contextmanager
def running(
    kind: Callable[[Path], Cluster], folder: Path, request: pytest.FixtureRequest
) -> Iterator[Cluster]:
    """A cluster; its logs are shown where a test failed meanwhile."""
    cluster, failed = kind(folder), request.session.testsfailed
    try:
        cluster.wait()
        yield cluster
    finally:
        cluster.end()
        if request.session.testsfailed > failed:
            print(cluster.processes.logs())


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Each engine: Flink with two task managers of 1 GB and two slots each, Spark with two workers, Prism."""
    with running(ENGINES[request.param], tmp_path_factory.mktemp(request.param), request) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def flink(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[FlinkCluster]:
    """Job manager, two task managers of 1 GB with two slots each, job server."""
    with running(FlinkCluster, tmp_path_factory.mktemp("flink"), request) as cluster:
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
