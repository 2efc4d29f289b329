"""A worker pool, asked for a worker from here, without an engine."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)

ANSWERS, BOOTS, SILENT, UNREACHABLE = "answers", "boots", "silent", "unreachable"
_LOCAL = {"localhost", "127.0.0.1", "::1", "[::1]"}
_SECONDS_TO_REACH = 5.0


def is_local(address: str) -> bool:
    """Whether a pool is asked for on the machine of whoever asks."""
    return address.rpartition(":")[0] in _LOCAL


def ask_pool(address: str, seconds: float) -> str:
    """Have a pool of this machine start a worker.

    Args:
        address: of the pool, host and port.
        seconds: to wait for the worker.

    Returns:
        `ANSWERS`: the worker came. `BOOTS`: its boot program did, of which no more is seen from here.
        `SILENT`: the pool started something that never came. `UNREACHABLE`: no pool is there.
    """
    came, booted, done = threading.Event(), threading.Event(), threading.Event()
    server = grpc.server(ThreadPoolExecutor(4))
    beam_fn_api_pb2_grpc.add_BeamFnControlServicer_to_server(_Control(came, done), server)
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(_Provision(booted), server)
    here = endpoints_pb2.ApiServiceDescriptor(url=f"localhost:{server.add_insecure_port('localhost:0')}")
    server.start()
    name = f"lrm-doctor-{uuid.uuid4().hex[:8]}"
    start = beam_fn_api_pb2.StartWorkerRequest(
        worker_id=name,
        control_endpoint=here,
        logging_endpoint=here,
        artifact_endpoint=here,
        provision_endpoint=here,
    )
    with grpc.insecure_channel(address) as channel:
        pool = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        try:
            if pool.StartWorker(start, timeout=_SECONDS_TO_REACH, wait_for_ready=True).error:
                return SILENT
            if came.wait(seconds):
                return ANSWERS
            return BOOTS if booted.is_set() else SILENT
        except grpc.RpcError:
            return UNREACHABLE
        finally:
            done.set()
            with suppress(grpc.RpcError):
                stop = beam_fn_api_pb2.StopWorkerRequest(worker_id=name)
                pool.StopWorker(stop, timeout=_SECONDS_TO_REACH)
            server.stop(0)


class _Control(beam_fn_api_pb2_grpc.BeamFnControlServicer):
    """Sees that a worker comes, and gives it nothing to do."""

    def __init__(self, came: threading.Event, done: threading.Event) -> None:
        self.came, self.done = came, done

    def Control(self, responses: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self.came.set()
        self.done.wait()
        yield from ()


class _Provision(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
    """Sees that a boot program asks what it is to start."""

    def __init__(self, booted: threading.Event) -> None:
        self.booted = booted

    def GetProvisionInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.booted.set()
        context.abort(grpc.StatusCode.CANCELLED, "only a question whether it starts")
