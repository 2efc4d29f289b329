"""The error of a job that no worker explained: a worker that was killed, an engine without room."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2

from behavior.errors import UserError
from behavior.printable import printable
from pipelines import dataflow
from pipelines.crashed import JobCrashError
from pipelines.engines.causes import root_cause, symptom_of
from pipelines.engines.engine import Engine
from pipelines.engines.logs import log_places

_FLINK_ID = re.compile(r"\(JobID: ([0-9a-f]{32})\)")
_WARNING = beam_job_api_pb2.JobMessage.JOB_MESSAGE_WARNING


def engine_crash(
    error: Exception, engine: Engine, result: Any = None, printed: Path | None = None
) -> JobCrashError:
    """Of a job on an engine: the innermost cause, the engine's page of the job, where logs are.

    Args:
        error: what Beam raised.
        engine: where the job ran.
        result: of `beam.Pipeline.run`, where it came so far.
        printed: what workers in this process have printed.
    """
    if isinstance(error, dataflow.DataflowError):
        known = symptom_of(str(error))
        what, fix = (known[1], known[0].fix) if known else (str(error), error.fix)
        return JobCrashError(f"the job failed: {what}", where=error.where, fix=fix)
    if isinstance(error, grpc.RpcError):
        own = f"its job server does not answer any more ({_details(error)})"
    else:
        own = _named(error) if result is None else str(error).strip() or type(error).__name__
    texts = [*messages_of(result), *engine.said(), own]
    found = told(texts, engine, result, "the job failed: ", printed)
    return JobCrashError(found.what, where=found.where, fix=found.fix)


def told(texts: list[str], engine: Engine, result: Any, begin: str, printed: Path | None = None) -> UserError:
    """The most telling of several messages, as an error.

    Args:
        texts: of the engine, any of which may have a stack trace.
        engine: where the job ran.
        result: of `beam.Pipeline.run`, where it came so far.
        begin: of the error's sentence.
        printed: what workers in this process have printed.
    """
    found = next(filter(None, map(symptom_of, texts)), None)
    if found is not None:
        what, fix = found[1], f"{found[0].fix}. "
    else:
        telling = [text for text in texts if _has_trace(text)]
        what, fix = root_cause((telling or texts)[0]), ""
    fix += f"More in {log_places(engine, engine.options)}"
    kept, found_id = _kept(texts), next(filter(None, map(_FLINK_ID.search, texts)), None)
    places = [
        engine.page(result) or (f"Flink's job {found_id[1]}" if found_id else ""),
        kept and f"all that the engine said: {kept}",
        f"what workers in this process printed: {printed}" if printed else "",
    ]
    where = "; ".join(filter(None, places))
    return UserError(f"{begin}{what}", where=where or None, fix=fix)


def _details(error: grpc.RpcError) -> str:
    details = getattr(error, "details", None)
    first = str(details() if callable(details) else error).strip().partition("\n")[0]
    return first.rpartition("last error: ")[2]  # of several addresses of one machine


def _named(error: Exception) -> str:
    """As Python shows it: of what went wrong before the engine had the job."""
    return f"{type(error).__name__}: {error}".strip(": ")


def messages_of(result: Any) -> list[str]:
    """What a job server has said of a job, newest first; Beam keeps it with the result."""
    found = []
    for message in list(getattr(result, "_messages", ())):
        with suppress(AttributeError, ValueError):
            said = message.message_response if message.HasField("message_response") else None
            if said is not None and (said.importance >= _WARNING or _has_trace(said.message_text)):
                found.append(said.message_text)
    return found[::-1]


def _has_trace(text: str) -> bool:
    return "Caused by" in text or "Traceback" in text


def _shown(text: str) -> str:
    return "\n".join(printable(line.expandtabs(4)) for line in text.strip().split("\n"))


def _kept(texts: list[str]) -> str:
    """File with all of them; empty where none has more than a line."""
    if not any("\n" in text.strip() for text in texts):
        return ""
    with suppress(OSError):
        handle, path = tempfile.mkstemp(prefix="lrm-job-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write("\n\n".join(_shown(text) for text in texts))
        return path
    return ""
