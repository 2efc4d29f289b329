"""Runs the pipeline that a job on Dataflow has staged, on Prism."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import grpc
from apache_beam.coders.coder_impl import create_InputStream
from apache_beam.portability.api import (
    beam_job_api_pb2,
    beam_job_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from google.protobuf.struct_pb2 import Struct

from tests.engines.dataflow import DONE, FAILED, DataflowJob
from tests.engines.installed import worker_variables
from tests.engines.prism import PrismServer
from tests.engines.processes import answers, free_ports, wait_for
from tests.engines.storage import StorageEmulator

_DOCKER, _EXTERNAL = "beam:env:docker:v1", "beam:env:external:v1"
_COUNTER = "beam:metric:user:sum_int64:v1"
_STATE = beam_job_api_pb2.JobState


class StagedPipelines:
    """What Dataflow's service does with a job: workers are processes of a pool here instead of containers.

    Args:
        storage: where pipelines are staged.
        folder: for logs.

    Attributes:
        processes: Prism's and the workers'.
    """

    def __init__(self, storage: StorageEmulator, folder: Path) -> None:
        self.storage = storage
        self.prism = PrismServer(folder)
        self.processes = self.prism.processes
        [self.pool] = free_ports(1)
        command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main"]
        env = {**worker_variables(), **storage.variables}
        self.processes.start("workers", [*command, f"--service_port={self.pool}"], env)

    def wait(self) -> None:
        """Until jobs can be run."""
        self.prism.wait()
        wait_for(lambda: answers(self.pool), "the worker pool")

    def end(self) -> None:
        """End all processes."""
        self.processes.end()

    def __call__(self, job: DataflowJob) -> str:
        pipeline = self.staged(job)
        for environment in pipeline.components.environments.values():
            assert environment.urn == _DOCKER
            pool = endpoints_pb2.ApiServiceDescriptor(url=f"localhost:{self.pool}")
            external = beam_runner_api_pb2.ExternalPayload(endpoint=pool)
            environment.urn, environment.payload = _EXTERNAL, external.SerializeToString()
        with grpc.insecure_channel(f"localhost:{self.prism.job}") as channel:
            return self._run(job, pipeline, beam_job_api_pb2_grpc.JobServiceStub(channel))

    def staged(self, job: DataflowJob) -> beam_runner_api_pb2.Pipeline:
        """The pipeline, from where the request says that it is."""
        data = self.storage.read(job.options["pipelineUrl"])
        assert hashlib.sha256(data).hexdigest() == job.options["pipelineProtoHash"]
        return beam_runner_api_pb2.Pipeline.FromString(data)

    def _run(self, job: DataflowJob, pipeline: beam_runner_api_pb2.Pipeline, server: Any) -> str:
        options = Struct()
        options.update({"options": job.options})
        prepared = server.Prepare(
            beam_job_api_pb2.PrepareJobRequest(
                job_name=job.request["name"], pipeline=pipeline, pipeline_options=options
            )
        )
        run = beam_job_api_pb2.RunJobRequest(preparation_id=prepared.preparation_id)
        number = server.Run(run).job_id
        stream = server.GetMessageStream(beam_job_api_pb2.JobMessagesRequest(job_id=number))
        ended = FAILED
        for told in stream:
            message = told.message_response
            if message.importance >= beam_job_api_pb2.JobMessage.JOB_MESSAGE_ERROR:
                job.messages.append(("JOB_MESSAGE_ERROR", message.message_text))
            state = told.state_response.state
            if state in (_STATE.DONE, _STATE.FAILED, _STATE.CANCELLED):
                ended = DONE if state == _STATE.DONE else FAILED
                break
        self._count(job, server.GetJobMetrics(beam_job_api_pb2.GetJobMetricsRequest(job_id=number)))
        return ended

    def _count(self, job: DataflowJob, found: Any) -> None:
        for info in found.metrics.committed or found.metrics.attempted:
            if info.urn == _COUNTER:
                counter = info.labels["NAMESPACE"], info.labels["NAME"]
                value = create_InputStream(info.payload).read_var_int64()
                job.counters[counter] = job.counters.get(counter, 0) + value
