"""Causes in what engines have said; `said` holds two stack traces as Flink 1.19 gave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.engines.causes import root_cause, symptom_of

SAID = Path(__file__).parent / "said"

BUFFERS = (
    "java.io.IOException: Insufficient number of network buffers: required 512, but only 508 available. The "
    "total number of network buffers is currently set to 512 of 32768 bytes each. You can increase this "
    "number by setting the configuration keys 'taskmanager.memory.network.fraction', "
    "'taskmanager.memory.network.min', and 'taskmanager.memory.network.max'."
)
IN_PYTHON = """java.util.concurrent.ExecutionException: java.lang.RuntimeException: Error received
\tat java.base/java.util.concurrent.CompletableFuture.reportGet(CompletableFuture.java:396)
Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 4: Traceback \
(most recent call last):
  File "apache_beam/runners/common.py", line 1512, in apache_beam.runners.common.DoFnRunner.process
  File "/opt/app.py", line 15, in process
    raise ValueError("wrong number\\nof two lines")
ValueError: wrong number
of two lines

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/app.py", line 15, in process
    response = task()
               ^^^^^^
ValueError: wrong number
of two lines [while running 'ParDo(Fail)']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient$Observer.onNext(FnApiControlClient.java:1)
\t... 1 more
"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ((SAID / "boot.txt").read_text(), "IllegalStateException: Process died with exit code 1"),
        (
            (SAID / "refused.txt").read_text(),
            "ConnectException: finishConnect(..) failed: Connection refused",
        ),
        (
            f"a.JobException: no\n\tat a.B.c(D.java:1)\nCaused by: {BUFFERS}\n\tat e.F.g(H.java:2)\n",
            BUFFERS[8:],
        ),
        (IN_PYTHON, "ValueError: wrong number\nof two lines [while running 'ParDo(Fail)']"),
        (
            f"bundle inst002 stage-002 failed:{IN_PYTHON.partition('4: ')[2]}",
            "ValueError: wrong number\nof two lines [while running 'ParDo(Fail)']",
        ),
        (f"Pipeline job_1-2 failed in state FAILED: {BUFFERS}", BUFFERS[8:]),
        ("one line of anybody's", "one line of anybody's"),
        ("two lines\nwhole", "two lines\nwhole"),
        ("  ", "no reason given"),
    ],
)
def test_the_innermost_cause_whole(text: str, cause: str) -> None:
    assert root_cause(text) == cause


@pytest.mark.parametrize(
    ("text", "what", "fix", "final"),
    [
        (
            (SAID / "boot.txt").read_text(),
            "ended by itself, with exit code 1",
            "RUN_PYTHON_SDK_IN_DEFAULT",
            True,
        ),
        (
            (SAID / "refused.txt").read_text(),
            "the engine reaches no worker pool",
            "localhost is each of",
            True,
        ),
        (BUFFERS, BUFFERS[8:], "sort-shuffle.min-buffers: 16", True),
        ("ModuleNotFoundError: No module named 'apache_beam'", "has no Beam", "PATH", True),
        (
            "ModuleNotFoundError: No module named 'pipelines.job'",
            "no module 'pipelines'",
            "install lrm-kit",
            True,
        ),
        ("ModuleNotFoundError: No module named 'torch'", "lack torch", "worker-torch", True),
        ("ImportError: Install s3fs to access S3", "lack s3fs", "EXTRAS", True),
        ('java.io.IOException: Cannot run program "docker": error=2', "no Docker", "PROCESS", True),
        (
            'java.io.IOException: Cannot run program "/opt/boot": error=2',
            "no program '/opt/boot'",
            "there",
            True,
        ),
        ("a.b.NoResourceAvailableException: Could not acquire", "too few free slots", "--parallelism", True),
        ("java.lang.OutOfMemoryError: Java heap space", "Java heap space", "more memory", True),
        (
            "a.FlinkJobNotFoundException: Could not find Flink job (82371812a635048730f022a718eea52a)",
            "Flink's job manager was started anew",
            "run the same command again",
            False,
        ),
        (
            "a.TimeoutException: Heartbeat of TaskManager with id x timed out.",
            "a task manager was lost",
            "log",
            False,
        ),
        (
            "org.apache.spark.SparkException: Job aborted due to stage failure: A shuffle map stage with "
            "indeterminate output was failed and retried. However, Spark cannot rollback the ResultStage 17",
            "Spark lost a machine or an executor",
            "again",
            False,
        ),
        (
            "org.apache.spark.SparkException: ExecutorLostFailure (executor 1",
            "an executor was lost",
            "log",
            False,
        ),
    ],
)
def test_known_symptoms_have_a_remedy(text: str, what: str, fix: str, final: bool) -> None:
    found = symptom_of(text)
    assert found is not None
    assert what in found[1]
    assert fix in found[0].fix
    assert found[0].final == final


@pytest.mark.parametrize("text", ["ValueError: wrong number", "ConnectionError: Connection refused", ""])
def test_what_is_not_known_is_not_guessed(text: str) -> None:
    assert symptom_of(text) is None
