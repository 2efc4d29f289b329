"""Beam's options on the command line: which there are. Beam passes over those that it does not know."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress

import grpc
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from behavior.config import did_you_mean
from behavior.errors import UsageError
from pipelines.option_values import value_of

_SECONDS_TO_ANSWER = 10.0


def parsed(options: Sequence[str]) -> PipelineOptions:
    """Options as Beam reads them.

    Raises:
        UsageError: a value is none that the option takes.
    """
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            given = PipelineOptions(list(options))
            given.get_all_options()
    except SystemExit:
        last = (told.getvalue().strip().splitlines() or ["an option cannot be read"])[-1]
        what = last.partition("error: ")[2] or last
        raise UsageError(what, where="after --", fix="correct the option") from None
    return given


def check_options(options: Sequence[str], of_program: Callable[[], set[str]] = set) -> None:
    """Options of the Python SDK, and of the job server where one is named, which must be there.

    A job server that is named is asked in any case: Beam itself waits five minutes for one that is not there,
    without a word.

    Args:
        options: of the command line.
        of_program: gives those of a job server that the runner starts, if any.

    Raises:
        UsageError: neither knows an option, or the job server does not answer within 10 s, or what
            `--job_server_timeout` allows.
    """
    endpoint = value_of(options, "--job_endpoint")
    at_endpoint = set()
    if endpoint and endpoint != "embed":
        at_endpoint = _of_job_server(endpoint, _seconds_to_answer(options))
    unknown = [name for name in _names(options) if name not in _of_sdk()]
    if not unknown:
        return
    known, who = _of_sdk(), "Beam knows"
    if endpoint and endpoint != "embed":
        known, who = known | at_endpoint, f"neither Beam nor the job server at {endpoint} knows"
    elif program := of_program():
        known, who = known | program, "neither Beam nor the job server knows"
    for name in unknown:
        if name not in known:
            no = "no" if who == "Beam knows" else "an"
            raise UsageError(f"{who} {no} option '{name}'", where="after --", fix=did_you_mean(name, known))


def _names(options: Sequence[str]) -> list[str]:
    return [option.partition("=")[0] for option in options if option.startswith("--")]


def _of_sdk() -> set[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for group in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in vars(group):
            group._add_argparse_args(parser)
    return {option for action in parser._actions for option in action.option_strings}


def job_server_options(endpoint: str) -> set[str] | None:
    """What a job server knows, by which engines differ; None where it does not answer at once."""
    request = beam_job_api_pb2.DescribePipelineOptionsRequest()
    with grpc.insecure_channel(endpoint) as channel, suppress(grpc.RpcError):
        server = beam_job_api_pb2_grpc.JobServiceStub(channel)
        found = server.DescribePipelineOptions(request, timeout=_SECONDS_TO_ANSWER)
        return {f"--{option.name}" for option in found.options}
    return None


def _seconds_to_answer(options: Sequence[str]) -> float:
    """For a job server that is about to be started, one may be told to wait."""
    if value_of(options, "--job_server_timeout") is None:
        return _SECONDS_TO_ANSWER
    return float(parsed(options).view_as(PortableOptions).job_server_timeout)


def _of_job_server(endpoint: str, seconds: float) -> set[str]:
    """What an engine's job server knows besides: Flink's, Spark's own.

    Raises:
        UsageError: it does not answer.
    """
    request = beam_job_api_pb2.DescribePipelineOptionsRequest()
    with grpc.insecure_channel(endpoint) as channel:
        try:
            server = beam_job_api_pb2_grpc.JobServiceStub(channel)
            found = server.DescribePipelineOptions(request, timeout=seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            raise UsageError(
                f"the job server at {endpoint} does not answer: {error.details() or error.code().name}",
                where="--job_endpoint",
                fix="start it and wait until it says that it has, or correct its address",
            ) from None
    return {f"--{option.name}" for option in found.options}
