"""Learning rates of sizes: searched, and carried over by the stated rule."""

from __future__ import annotations

import itertools
import math

import pytest

from behavior.errors import UserError
from models.scaling.grid import RateRule, ScaleGrid, Size, grid_names, load_grid
from models.scaling.lines import edge_lines
from models.scaling.rates import carried_over, refined, resolve, search

RATES = [0.0003, 0.001, 0.003, 0.01]


def grid(**changes: object) -> ScaleGrid:
    base = {"backbones": {"A": {}, "B": {"model.kind": "llama", "widths": [8]}}, "blocks": [4, 1, 2]}
    return ScaleGrid(**{**base, "widths": [8, 16, 32], "seeds": [0, 1], "data": [0.5, 1.0], **changes})


def planted(size: Size, rate: float) -> float:
    """The best rate is `0.004 * (width / 8)^-1 * blocks^-0.5`, in a parabola over its logarithm."""
    best = 0.004 * (size.width / 8) ** -1.0 * size.blocks**-0.5
    return -((math.log(rate) - math.log(best)) ** 2)


def test_sizes_are_all_combinations_with_a_backbones_own_sizes() -> None:
    sizes = grid().sizes()
    assert len(set(sizes)) == len(sizes) == 3 * 3 * 2 * 2 + 3 * 1 * 2 * 2
    assert {size.width for size in sizes if size.backbone == "B"} == {8}


def test_each_size_keeps_the_best_of_all_rates() -> None:
    found = grid(learning_rate={"rates": RATES})
    first = resolve(found, lambda size, rate: None)
    assert len(first.runs) == (9 + 3) * len(RATES)
    assert all(run.searches and run.size.seed == 0 and run.size.data == 1.0 for run in first.runs)
    resolved = resolve(found, planted)
    assert not resolved.waiting
    for (_, blocks, width), rate in resolved.rates.items():
        size = Size("A", blocks, width, None, 1.0, 0)
        assert rate == max(RATES, key=lambda rate, size=size: planted(size, rate))
    # Every size has its run once, at its rate; those of the search among them.
    final = [(run.size, run.rate) for run in resolved.runs if run.rate == resolved.rates[run.size.shape]]
    assert sorted(size for size, _ in final) == sorted(found.sizes())


def test_large_sizes_follow_the_power_law_of_small_ones() -> None:
    """Which is recovered from the best rates of four sizes, though no tried rate is the best one."""
    found = grid(learning_rate={"rates": RATES, "rule": "transfer"}, backbones={"A": {}})
    waiting = resolve(found, lambda size, rate: None)
    assert {run.size.shape for run in waiting.runs} == set(itertools.product("A", (1, 2), (8, 16)))
    assert {size.shape[1:] for size in waiting.waiting} >= {(4, 32), (4, 8), (1, 32)}
    resolved = resolve(found, planted)
    for blocks, width in ((4, 8), (4, 32), (1, 32)):
        expected = 0.004 * (width / 8) ** -1.0 * blocks**-0.5
        assert resolved.rates["A", blocks, width] == pytest.approx(expected, rel=0.006)


def test_given_powers_are_kept_and_one_size_is_enough() -> None:
    rule = RateRule(rates=RATES, rule="transfer", blocks=1, widths=1, width_power=-1.0, depth_power=-0.5)
    found = carried_over(rule, {("A", 2, 16): 0.002}, [("A", 8, 64)], RATES)
    assert found == {("A", 8, 64): pytest.approx(0.002 / 4 / 2)}  # though no such rate was tried
    opened = RateRule(rates=RATES, rule="transfer", width_power=-1.0)
    found = carried_over(opened, {("A", 2, 16): 0.002, ("A", 2, 32): 0.001}, [("A", 8, 64)], RATES)
    assert found == {("A", 8, 64): pytest.approx(0.0005)}  # nothing is known of depth: power 0


def test_carried_rates_do_not_grow_with_the_size_nor_leave_those_tried() -> None:
    """Four small sizes whose best rates rise with depth, and fall too fast with the width."""
    rule = RateRule(rates=RATES, rule="transfer")
    best = {(2, 16): 0.002, (2, 32): 0.0002, (4, 16): 0.004, (4, 32): 0.0004}
    known = {("A", *shape): rate for shape, rate in best.items()}
    found = carried_over(rule, known, [("A", 2, 24), ("A", 32, 24), ("A", 32, 512)], RATES)
    assert found["A", 32, 24] == found["A", 2, 24]
    # Powers -1 of the width and 0 of depth are what fits best within the bounds; c is the mean.
    mean = math.exp(sum(math.log(rate) for rate in best.values()) / 4)
    assert found["A", 32, 24] == pytest.approx(mean * math.sqrt(16 * 32) / 24, rel=0.005)
    assert found["A", 32, 512] == RATES[0]


@pytest.mark.parametrize(
    ("best", "further"),
    [(0.04, [0.0333, 0.111]), (0.09, [0.0333, 0.111]), (1e-6, [0.00009, 0.000027]), (0.0011, [])],
)
def test_a_best_rate_at_an_end_widens_the_search(best: float, further: list[float]) -> None:
    """By the step of the rates beside it, as often as `widen` says, and no further than the best."""
    rule = RateRule(rates=RATES, widen=2)
    asked = list(RATES)

    def outcome(rate: float) -> float | None:
        return -(math.log(rate / best) ** 2) if rate in asked else None

    while not (found := search(rule, outcome)).is_settled:
        asked += [rate for rate in found.rates if rate not in asked]
    assert asked[len(RATES) :] == pytest.approx(further, rel=0.01)
    assert found.is_at_an_end == (best in (0.09, 1e-6))
    assert not search(RateRule(rates=[0.001]), lambda rate: 1.0).is_at_an_end


def test_sizes_that_are_best_at_an_end_are_told() -> None:
    def rising(size: Size, rate: float) -> float:
        return rate if size.width == 8 else planted(size, rate)

    resolved = resolve(grid(learning_rate={"rates": RATES}, backbones={"A": {}}), rising)
    assert set(resolved.edges) == {("A", blocks, 8) for blocks in (1, 2, 4)}
    assert resolved.rates["A", 1, 8] == pytest.approx(0.111, rel=0.01)
    assert edge_lines(resolved)[0] == (
        "A, blocks 4, width 8: the best learning rate, 0.111, is the outermost that was tried"
    )


def test_failed_rates_lose_and_a_size_without_any_is_given_up() -> None:
    def outcome(size: Size, rate: float) -> float:
        failed = size.width == 16 or rate > 0.005
        return -math.inf if failed else planted(size, rate)

    resolved = resolve(grid(learning_rate={"rates": RATES}), outcome)
    assert {shape[2] for shape in resolved.hopeless} == {16}
    assert not resolved.waiting
    assert max(resolved.rates.values()) <= 0.005
    everything = resolve(
        grid(learning_rate={"rates": RATES, "rule": "transfer"}), lambda size, rate: -math.inf
    )
    assert not everything.waiting
    assert not everything.rates


def test_between_rates_the_parabola_decides_and_at_an_end_the_end() -> None:
    best = 0.0017
    values = [-((math.log(rate) - math.log(best)) ** 2) for rate in RATES]
    assert refined(RATES, values) == pytest.approx(best, rel=1e-9)
    assert refined(RATES, [4.0, 3.0, 2.0, 1.0]) == RATES[0]
    assert refined(RATES, [1.0, 5.0, -math.inf, 1.0]) == RATES[1]


def test_pairs_of_blocks_and_width_instead_of_all_combinations() -> None:
    found = ScaleGrid(
        backbones={"A": {}, "B": {"widths": [8], "blocks": [1, 2]}, "C": {"shapes": [[9, 9]]}},
        shapes=[[2, 64], [16, 512], [4, 32]],
        learning_rate={"rates": RATES, "rule": "transfer", "blocks": 2, "widths": 2},
    )
    shapes = {size.shape for size in found.sizes()}
    assert shapes == {("A", 2, 64), ("A", 16, 512), ("A", 4, 32), ("B", 1, 8), ("B", 2, 8), ("C", 9, 9)}
    searched = {run.size.shape for run in resolve(found, lambda size, rate: None).runs}
    assert searched == shapes - {("A", 16, 512)}


def test_without_a_rule_the_rate_is_the_recipes() -> None:
    resolved = resolve(grid(), planted)
    assert [run.rate for run in resolved.runs] == [None] * len(grid().sizes())


@pytest.mark.parametrize("name", grid_names())
def test_every_packaged_grid_has_settings_that_fit(name: str) -> None:
    found = load_grid(name)
    assert found.title
    for size in found.sizes():
        config = found.config(size, 0.001)
        assert (config.model.blocks, config.model.dim) == (size.blocks, size.width)


def test_wrong_grids_say_what_is_wrong() -> None:
    with pytest.raises(UserError, match="neither a file nor a ready grid"):
        load_grid("ml-1m/depht-width")
    with pytest.raises(ValueError, match="blocks"):
        ScaleGrid(backbones={"A": {"blocks": [0]}})
    with pytest.raises(UserError, match="dmi"):
        ScaleGrid(backbones={"A": {"model.dmi": 8}}).config(Size("A", None, None, None, 1.0, 0))
