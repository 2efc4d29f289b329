"""`lrm doctor`: what works on this machine, and why the rest does not."""

from __future__ import annotations

import platform
from typing import Annotated, Any

import typer

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


def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show versions, devices, attention kernels (and why some cannot be used here), and Beam runners.

    Example:  lrm doctor --json
    """
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
