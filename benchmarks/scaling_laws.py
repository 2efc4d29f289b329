"""How often intervals of fitted laws hold what was planted, and what is learned of sizes never seen.

    python benchmarks/scaling_laws.py                 100 draws of each law
    python benchmarks/scaling_laws.py --draws 20      a quick look

Points of known laws with noise are drawn, laws are fitted to them, and what is planted is looked for in the
90 % intervals: parameters, the law's own prediction, one new run, and the exponent of the compute-optimal
size. A second table fits each law to all but the largest sizes, and says how far its prediction of these is
off, beside its error on the points that it was fitted to.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from synthetic import machine

from models.scaling.laws import (
    Frontier,
    PerformanceForm,
    PerformanceLaw,
    Points,
    PowerForm,
    PowerLaw,
    Term,
    TrainingCost,
    fit_law,
    held_out,
    largest,
)
from models.scaling.laws.law import Form, Law

LEVEL = 0.9
FLOPS = "flops"


@dataclass(frozen=True)
class Planted:
    """A law, and points of it.

    Attributes:
        name: for the table.
        law: what is planted.
        form: what is fitted.
        table: the sizes.
        asked: within the sizes, where predictions are judged.
        noise: relative for power laws, absolute for the performance law.
        size: the column by which the largest are left out.
    """

    name: str
    law: Law
    form: Form
    table: dict[str, np.ndarray]
    asked: dict[str, float]
    noise: float
    size: str

    def points(self, draw: np.random.Generator) -> Points:
        """All sizes once, with noise."""
        exact = self.law.predict(self.table)
        noise = self.noise * draw.standard_normal(len(exact))
        return Points.of({**self.table, self.form.of: self.form.disturbed(exact, noise)})


def grid(**sides: np.ndarray) -> dict[str, np.ndarray]:
    """All combinations."""
    values = np.meshgrid(*sides.values(), indexing="ij")
    return {name: value.ravel().astype(float) for name, value in zip(sides, values, strict=True)}


def planted() -> Iterator[Planted]:
    """The laws of the tables."""
    loss = PowerLaw(3.0, (Term("parameters_backbone", 50.0, 0.35), Term("tokens", 200.0, 0.30)))
    for rows, columns, noise in ((6, 5, 0.005), (4, 4, 0.005), (6, 5, 0.02)):
        table = grid(parameters_backbone=np.geomspace(1e4, 3e7, rows), tokens=np.geomspace(1e6, 3e8, columns))
        table[FLOPS] = 7.0 * table["parameters_backbone"] ** 0.95 * table["tokens"]
        asked = {"parameters_backbone": 1e6, "tokens": 2e7}
        name = f"loss in parameters and tokens, {rows} x {columns}, noise {noise:.1%}"
        yield Planted(name, loss, PowerForm(), table, asked, noise, "parameters_backbone")
    metric = PowerLaw(0.2, (Term(FLOPS, 40.0, 0.2),), rising=True)
    form = PowerForm((FLOPS,), "ndcg@10", rising=True)
    table = {FLOPS: np.geomspace(1e12, 1e18, 24)}
    yield Planted(
        "saturating metric in compute, 24, noise 1.0%", metric, form, table, {FLOPS: 1e15}, 0.01, FLOPS
    )
    performance = PerformanceLaw(w1=-0.1, w2=-0.2, w3=-0.35, w4=-0.2, b=0.3)
    table = grid(blocks=np.array([2, 4, 8, 12, 16, 32]), width=np.array([16, 24, 32, 64, 96, 128]))
    yield Planted(
        "performance law, 6 x 6, noise .001",
        *(performance, PerformanceForm(), table, {"blocks": 10.0, "width": 48.0}, 0.001, "blocks"),
    )


def holds(case: Planted, seed: int, replicates: int) -> dict[str, bool]:
    """Whether each interval of one draw holds what is planted."""
    draw = np.random.default_rng([1, seed])
    points = case.points(draw)
    fitted = fit_law(points, case.form, replicates=replicates, seed=seed)
    found = {}
    for name, value in case.law.parameters().items():
        interval = fitted.parameters(LEVEL)[name]
        found[name] = interval.low <= value <= interval.high
    truth = case.law.predict(case.asked)
    said = fitted.predict(case.asked, LEVEL)
    found["prediction"] = bool(said.low[0] <= truth[0] <= said.high[0])
    new = case.form.disturbed(truth, case.noise * draw.standard_normal(1))
    found["one new run"] = bool(said.run_low[0] <= new[0] <= said.run_high[0])
    if isinstance(case.law, PowerLaw) and len(case.law.terms) == 2:
        a, b = (term.exponent for term in case.law.terms)
        interval = Frontier(fitted, TrainingCost.of(points)).exponents(LEVEL)["parameters"]
        found["exponent of the best size"] = interval.low <= b / (a + 0.95 * b) <= interval.high
    return found


def coverage(case: Planted, draws: int, replicates: int) -> None:
    hits: dict[str, int] = defaultdict(int)
    begin = time.perf_counter()
    for seed in range(draws):
        for name, held in holds(case, seed, replicates).items():
            hits[name] += held
    each = (time.perf_counter() - begin) / draws
    cells = ", ".join(f"{name} {count}" for name, count in hits.items())
    print(f"| {case.name} | {cells} | {each:.2f} |", flush=True)


def left_out(case: Planted, draws: int) -> None:
    errors = []
    for seed in range(draws):
        points = case.points(np.random.default_rng([1, seed]))
        both = held_out(points, case.form, largest(points, case.size, 0.34))
        errors.append((both.in_sample.relative_error, both.held_out.relative_error, both.held_out.bias))
    inside, outside, bias = np.median(np.array(errors), axis=0)
    worst = np.quantile(np.array(errors)[:, 1], 0.9)
    print(f"| {case.name} | {inside:.2%} | {outside:.2%} | {worst:.2%} | {bias:+.2%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--only", default="", help="laws with this in their names")
    options = parser.parse_args()
    cases = [case for case in planted() if options.only in case.name]
    print(f"{options.draws} draws, {options.replicates} replicates a bootstrap; {machine()}\n")
    print("| law | of the draws, how many 90 % intervals hold | seconds a draw |")
    print(f"|{' --- |' * 3}")
    for case in cases:
        coverage(case, options.draws, options.replicates)
    print("\n| law | error in-sample | on the largest third, left out | of these errors, 90 % below | bias |")
    print(f"|{' --- |' * 5}")
    for case in cases:
        left_out(case, options.draws)


if __name__ == "__main__":
    main()
