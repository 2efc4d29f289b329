"""Why a job failed: the innermost cause in what an engine says, and known symptoms with their remedies."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CAUSED_BY = re.compile(r"^\s*Caused by: ", re.MULTILINE)
_FRAME = re.compile(
    r"^\s+(?:at \S+\(.*|\.\.\. \d+ (?:more|common frames omitted))$|^\s*Suppressed: ", re.MULTILINE
)
_PYTHON = "Traceback (most recent call last):"
_OF_BEAM = re.compile(
    r"^(?:Pipeline \S+ failed in state \w+: |\S*Exception: (?=Error received from SDK harness)"
    r"|Error received from SDK harness for instruction \S+: )"
)
_JAVA_PACKAGE = re.compile(r"^(?:[a-z_][\w$]*\.)+(?=[A-Z]\w*(?:Exception|Error|Failure)\b)")


def root_cause(text: str) -> str:
    """The innermost cause, whole: its message may have several lines.

    Args:
        text: an engine's message, with or without a stack trace of Java's, which may hold one of Python's.

    >>> root_cause("a.B: outer\\n\\tat a.B.c()\\nCaused by: java.io.IOException: inner\\n\\tat d.E.f()")
    'IOException: inner'
    """
    inner = _CAUSED_BY.split(text)[-1]
    frame = _FRAME.search(inner)
    cause = (inner[: frame.start()] if frame else inner).strip()
    if _PYTHON in cause:
        cause = _raised(cause.rpartition(_PYTHON)[2]) or cause
    previous = None
    while cause != previous:
        previous, cause = cause, _OF_BEAM.sub("", cause).strip()
    return _JAVA_PACKAGE.sub("", cause) or "no reason given"


def _raised(trace: str) -> str:
    """What stands behind the frames of a trace of Python's: the exception and its message."""
    lines = trace.strip("\n").split("\n")
    for place, line in enumerate(lines):
        if line.strip() and not line.startswith(" "):
            return "\n".join(lines[place:]).strip()
    return ""


@dataclass(frozen=True)
class Symptom:
    """What an engine says, what it means, and what to do.

    Attributes:
        said: found in an engine's message; `{0}` in the others is its first group.
        what: in words; empty where the engine's own are plain.
        fix: the remedy.
        final: trying again is of no use.
    """

    said: re.Pattern[str]
    what: str
    fix: str
    final: bool = True


BOOT_ADVICE = (
    "run the command of --environment_config on a worker's machine: what it prints says why. lrm-worker, "
    "which comes with lrm-kit, wants nothing more; Beam's boot program wants a PATH that leads to a Python "
    "with Beam and lrm-kit, and in 'env' "
    '"RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1"'
)
_OWN = "(?:behavior|pipelines|models|cli)"
_SYMPTOMS = [
    (
        r"Process died with exit code (-?\d+)",
        "the program that starts workers ended by itself, with exit code {0}",
        BOOT_ADVICE,
    ),
    (
        r"Insufficient number of network buffers",
        "",
        "on the task managers, set taskmanager.network.sort-shuffle.min-buffers: 16, or more "
        "taskmanager.memory.network.min and .max; or ask for a smaller --parallelism",
    ),
    (
        r"No module named '?(apache_beam)\b",
        "the Python of the workers has no Beam",
        "install lrm-kit, and Beam with it, for the Python that starts workers there, or correct their PATH",
    ),
    (
        rf"No module named '?({_OWN})\b",
        "the workers lack lrm-kit: they have no module '{0}'",
        "install lrm-kit, of this machine's version, where workers run, or use its image",
    ),
    (
        r"No module named '?(torch)\b",
        "the workers lack torch",
        "use the image that has it (docker build --target worker-torch), or install it where workers run",
    ),
    (
        r"(?:Install|No module named '?)\s*(gcsfs|s3fs)\b",
        "the workers lack {0}",
        "build the image with --build-arg EXTRAS=gcp or s3, or pip install 'lrm-kit[gcp]' or [s3] there",
    ),
    (
        r"Cannot run program \"docker\"|docker: (?:command )?not found",
        "the workers' machines have no Docker",
        "add --environment_type=PROCESS or EXTERNAL: docs/deploy.md shows both",
    ),
    (
        r"Cannot run program \"([^\"]+)\"",
        "the workers' machines have no program '{0}'",
        "correct the command in --environment_config: it is a path there, not here",
    ),
    (
        r"pull access denied|manifest unknown|repository does not exist|Unable to find image",
        "",
        "correct the name of the image, push it, or let the workers' machines log in to the registry",
    ),
    (
        r"(?s)(?:Connection refused|UNAVAILABLE).*ExternalEnvironmentFactory|StartWorker.*refused",
        "the engine reaches no worker pool",
        "start the pool of --environment_config where the engine's machines reach it: localhost is each of "
        "them, and not this one",
    ),
    (
        r"NoResourceAvailableException|minimum required resources|Slot request .* timed out",
        "the engine has too few free slots",
        "wait until other jobs end, start more task managers, or ask for a smaller --parallelism",
    ),
    (
        r"OutOfMemoryError: (.*)",
        "",
        "give the engine's processes more memory: docs/deploy.md has settings that were measured",
    ),
    (
        r"not a proper subclass|ClassCastException: .* cannot be cast",
        "",
        "set classloader.resolve-order: parent-first, and put all of Beam's jars into Flink's lib folder",
    ),
    (
        r"JobCancellationException|was cancelled",
        "somebody cancelled the job on the engine",
        "run the same command again when that is sorted out",
    ),
]
SYMPTOMS = [Symptom(re.compile(said), what, fix) for said, what, fix in _SYMPTOMS]
_LOST = [
    (
        r"shuffle map stage with indeterminate output was failed",
        "Spark lost a machine or an executor, and with it data that it cannot make anew in this job",
        "run the same command again, once the machine is back",
    ),
    (
        r"Could not find Flink job \(",
        "Flink's job manager was started anew, and does not know the job any more",
        "run the same command again; jobs outlive their job manager where Flink has high availability",
    ),
    (
        r"Heartbeat of TaskManager|Connection unexpectedly closed by remote task manager|lost task manager",
        "a task manager was lost",
        "look into its log, often for want of memory; docs/deploy.md has settings by which Flink tries again",
    ),
    (
        r"ExecutorLostFailure|Executor lost",
        "an executor was lost",
        "look into its log, often for want of memory",
    ),
    (
        r"SDK [Hh]arness (?:.*)disconnected|call already cancelled|CANCELLED: call|Multiplexer hanging up",
        "a worker process was lost",
        "look into the workers' log; often the system ends one for want of memory",
    ),
]
SYMPTOMS += [Symptom(re.compile(said), what, fix, final=False) for said, what, fix in _LOST]


def symptom_of(text: str) -> tuple[Symptom, str] | None:
    """The first known symptom in a message, and what it means in words."""
    for symptom in SYMPTOMS:
        found = symptom.said.search(text)
        if found is not None:
            return symptom, symptom.what.format(*found.groups()) if symptom.what else root_cause(text)
    return None
