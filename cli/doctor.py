"""`lrm doctor`: what works on this machine, and why the rest does not."""

from __future__ import annotations

import platform
from typing import Annotated, Any

import typer

from behavior.errors import UsageError
from behavior.runtime.versions import NOT_INSTALLED, OWN, installed_version
from cli.console import print_json, print_table, say

_PACKAGES = (
    OWN,
    "torch",
    "apache-beam",
    "pyarrow",
    "numpy",
    "numba",
    "lightning",
    "pydantic",
    "xformers",
    "triton",
)


def doctor(
    context: typer.Context,
    runner: Annotated[
        str | None,
        typer.Option(
            help="Look at the workers of a runner instead, by a tiny job: local, or a Beam runner such as "
            "FlinkRunner; what follows -- is passed on to Beam."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Of --runner local, processes; default: one.")] = 0,
    input: Annotated[
        list[str] | None,
        typer.Option(help="With --runner: file, folder or glob that workers are to read; may be repeated."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="With --runner: folder that workers are to write to.")
    ] = None,
    worker_timeout: Annotated[
        float | None,
        typer.Option(help="With --runner: seconds that it may take; default: 300, on Dataflow 900."),
    ] = None,
    warm: Annotated[
        bool,
        typer.Option(
            "--warm",
            help="Compile what commands compile when they first need it, and keep it: for images.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show versions, devices, attention kernels (and why some cannot be used here), and Beam runners.

    With --runner, what the workers of an engine have and lack beside this machine, with the remedy.

    Example:  lrm doctor --json

    Example:  lrm doctor --warm

    Example:  lrm doctor --runner FlinkRunner --out /mnt/data/shop -- --flink_master=localhost:8081
    """
    if warm:
        from cli.warm import warm as compile_all

        if runner is not None:
            raise UsageError("--warm looks at no runner", where="--warm", fix="leave out --runner")
        compile_all(json=json)
        return
    if runner is not None:
        from cli.doctor_runner import doctor_runner
        from pipelines.runner import RunnerOptions

        options = RunnerOptions(runner, workers, list(context.args), worker_timeout=worker_timeout)
        doctor_runner(options, input or [], out, json=json)
        return
    for flag, given in (
        ("--workers", workers),
        ("--input", input),
        ("--out", out),
        ("--worker-timeout", worker_timeout is not None),
        (" ".join(context.args[:1]), context.args),
    ):
        if given:
            raise UsageError(f"{flag} goes with --runner", where=flag, fix="add --runner NAME")
    from models.attention import kernel_table
    from models.gpu.device import device_facts
    from pipelines.runner import known_runners

    record: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: installed_version(name) for name in _PACKAGES},
        "device": device_facts(),
        "kernels": kernel_table(),
        "runners": known_runners(),
    }
    if json:
        print_json(record)
        return
    device = record["device"]
    say(f"Python {record['python']} on {record['platform']}")
    where = ", ".join(device["cuda"]) if device["cuda"] else "no CUDA device"
    say(f"{device['cores']} cores, {device['torch_threads']} threads (lrm --threads); {where}")
    say(f"training by default: train.precision={device['precision']}")
    print_table(
        "packages", ("package", "version"), [(n, v or NOT_INSTALLED) for n, v in record["versions"].items()]
    )
    kernels = [(name, row["usable"], "; ".join(row["reasons"])) for name, row in record["kernels"].items()]
    print_table(
        "attention kernels",
        ("kernel", "usable", "why not"),
        [(n, "yes" if u else "no", r) for n, u, r in kernels],
    )
    print_table("Beam runners", ("runner", ""), list(record["runners"].items()))
