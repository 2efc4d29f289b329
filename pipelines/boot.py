"""`lrm-worker`: what an engine starts on its machines as a worker, for `--environment_type=PROCESS`.

It takes the place of Beam's boot program, which is not in Beam's Python package, makes a virtual environment
for each worker, and lists its packages. This one is the worker itself, in the environment that it lies in:
it asks the engine for what a worker must know (Beam's container contract) and goes on as Beam's worker.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from apache_beam.portability.api import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from apache_beam.runners.worker import sdk_worker_main
from apache_beam.runners.worker.log_handler import FnApiLogRecordHandler
from google.protobuf import json_format, text_format

from pipelines.option_values import WORKER

_SECONDS_TO_ANSWER = 60.0
_TO_INSTALL = {
    *("extra_packages.txt", "requirements.txt", "workflow.tar.gz", "dataflow_python_sdk.tar"),
    "pickled_main_session",
}
"""Names of what Beam sends along for workers to install or load; all else are files that are only there."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Be one worker, until the engine hangs up."""
    parser = argparse.ArgumentParser(prog=WORKER, description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--id", required=True, help="name of the worker")
    parser.add_argument(
        "--provision_endpoint", required=True, help="HOST:PORT where the engine says the rest"
    )
    parser.add_argument("--semi_persist_dir", default="/tmp", help="folder for files of the worker")
    given, _ = parser.parse_known_args(arguments)
    found = provision(given.provision_endpoint, given.id)
    os.environ.update(variables(given.id, found, given.semi_persist_dir))
    if reason := refusal(found):
        say(os.environ, reason)
        sys.exit(f"{WORKER}: {reason}")
    sdk_worker_main.main([])


def provision(endpoint: str, worker: str) -> Any:
    """What the engine tells a worker: a `ProvisionInfo`.

    Raises:
        SystemExit: it does not answer within a minute.
    """
    request = beam_provision_api_pb2.GetProvisionInfoRequest()
    with grpc.insecure_channel(endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        try:
            answer = service.GetProvisionInfo(
                request, timeout=_SECONDS_TO_ANSWER, wait_for_ready=True, metadata=[("worker_id", worker)]
            )
        except grpc.RpcError as error:
            sys.exit(f"{WORKER}: {endpoint} does not answer: {error.details() or error.code().name}")
    return answer.info


def variables(worker: str, found: Any, folder: str) -> dict[str, str]:
    """The environment in which Beam's worker finds what it must know.

    Args:
        worker: its name.
        found: what the engine told: a `ProvisionInfo`.
        folder: for files of the worker.
    """
    shown = {
        "WORKER_ID": worker,
        "SEMI_PERSISTENT_DIRECTORY": folder,
        "PIPELINE_OPTIONS": json_format.MessageToJson(found.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(found.runner_capabilities),
        "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(found.logging_endpoint),
        "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(found.control_endpoint),
    }
    if found.HasField("status_endpoint"):
        shown["STATUS_API_SERVICE_DESCRIPTOR"] = text_format.MessageToString(found.status_endpoint)
    for key, name in (("job_name", "JOB_NAME"), ("job_id", "JOB_ID")):
        if key in found.metadata:
            shown[name] = found.metadata[key]
    return shown


def refusal(found: Any) -> str | None:
    """Why this program is no worker for a job, if so."""
    brought = [_name_of(artifact) for artifact in found.dependencies]
    if _TO_INSTALL & set(brought):
        return (
            f"the job brings {', '.join(brought)}, and {WORKER} installs nothing: leave out --extra_package, "
            "--requirements_file, --setup_file and --save_main_session, and install what workers need where "
            f"{WORKER} is"
        )
    if found.sibling_worker_ids:
        return f"the engine asks one {WORKER} for {1 + len(found.sibling_worker_ids)} workers"
    return None


def _name_of(artifact: Any) -> str:
    """The name that a file is staged under, as its role says it."""
    role = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload)
    return role.staged_name or "a file"


def say(environment: Mapping[str, str], reason: str) -> None:
    """Tell the engine's log."""
    service = endpoints_pb2.ApiServiceDescriptor()
    text_format.Merge(environment["LOGGING_API_SERVICE_DESCRIPTOR"], service)
    handler = FnApiLogRecordHandler(service)
    handler.emit(logging.LogRecord(WORKER, logging.ERROR, __file__, 0, reason, None, None))
    handler.close()


if __name__ == "__main__":
    main()
