"""`lrm scale` without the command line's packages: `python -m models.scaling GRID --data DIR --out DIR`.

For machines that have torch and little else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from behavior.errors import UserError
from behavior.printable import printable, tell
from models.scaling.grid import load_grid
from models.scaling.lines import crowded_lines, edge_lines, plan_lines, result_line


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.scaling", description=__doc__)
    parser.add_argument("grid", help="name of a grid that ships with the package, or a YAML file")
    parser.add_argument("--data", required=True, help="shard folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the grid; several may share it")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, spread over the GPUs")
    parser.add_argument("--gpus", nargs="*", default=[], help="GPUs to use, by number; default: all")
    parser.add_argument("--budget-minutes", type=float, help="GPU minutes that may be used")
    parser.add_argument("--split", choices=["test", "valid"], default="test")
    parser.add_argument("--keep", choices=["all", "best", "none"], default="best")
    parser.add_argument("--retry", action="store_true", help="run again what has failed")
    parser.add_argument("--plan", action="store_true", help="print the plan, and end")
    options = parser.parse_args()
    from models.scaling.scale import Scale  # only now torch

    scale = Scale(load_grid(options.grid), options.data, options.out, split=options.split, keep=options.keep)
    plan = scale.plan()
    tell("\n".join(plan_lines(plan)))
    if options.plan:
        return
    news = scale.run(
        jobs=options.jobs,
        gpus=options.gpus,
        budget_minutes=options.budget_minutes,
        plan=plan,
        retry=options.retry,
    )
    for each in news:
        tell(result_line(each))
    state = scale.look()
    for line in [*crowded_lines(scale.store.read_crowded()), *edge_lines(state.resolved)]:
        tell(line)
    tell(f"{len(state.results)} done, {len(state.failures)} failed, {len(state.todo)} left")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(printable(str(error))) from None
