"""All laws of a table at once."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from behavior.errors import UserError
from models.scaling.laws import Points, study_laws
from models.scaling.laws.study import LOSS_LAW, SHAPE_LAW, finals, until_final
from tests.models.scaling.laws.planted import LOSS, PERFORMANCE, loss_points


def rows(backbone: str, noise: float = 0.002) -> list[dict[str, Any]]:
    """Six block counts by four widths, four checkpoints each, of which the third is final."""
    draw = np.random.default_rng(len(backbone))
    found: list[dict[str, Any]] = []
    for blocks in (2, 4, 8, 12, 16, 32):
        for width in (16, 32, 64, 128):
            n = 12.0 * blocks * width**2
            for check in range(4):
                tokens = 1e6 * 4**check
                table = {"parameters_backbone": n, "tokens": tokens}
                shape = {"blocks": float(blocks), "width": float(width)}
                loss = LOSS.predict(table)[0] * np.exp(noise * draw.standard_normal())
                row = {"run": f"{backbone}-{blocks}-{width}", "dataset": "shop", "backbone": backbone}
                row |= {"final": check == 2, "rate_chosen": True, "flops": 6 * n * tokens}
                row |= {**table, **shape, "loss": loss if check < 3 else 9.0}
                row["ndcg@10"] = PERFORMANCE.predict(shape)[0] + 0.0003 * draw.standard_normal()
                found.append(row)
            found.append(found[-1] | {"run": f"{backbone}-{blocks}-{width}-other", "rate_chosen": False})
    return found


def test_every_backbone_has_its_laws() -> None:
    points = Points.from_rows([*rows("hstu"), *rows("llama")[:5]])
    both = study_laws(points, replicates=6)
    assert [(one.dataset, one.backbone, one.runs, one.points) for one in both] == [
        ("shop", "hstu", 24, 96),
        ("shop", "llama", 1, 4),
    ]
    assert not both[1].laws
    assert "3 points are too few for the 5 parameters" in both[1].reasons[LOSS_LAW]
    hstu = both[0]
    law = hstu.laws[LOSS_LAW]
    assert law.in_sample.points == 72  # what comes after the final point is left out
    assert law.runs == 24
    assert law.law.parameters()["exponent of tokens"] == pytest.approx(0.3, abs=0.05)
    performance = hstu.laws["ndcg@10 in blocks and width (performance law)"]
    assert performance.in_sample.points == 24
    assert performance.in_sample.r2 > 0.98 > hstu.laws["ndcg@10 in parameters, plain power law"].in_sample.r2
    assert hstu.reasons == {}
    record = json.loads(json.dumps([one.record() for one in both]))[0]
    assert len(record["compared"]) == 2 * len(record["laws"]) == 14
    held_out = {(row["law"], row["split"]): row["held-out R2"] for row in record["compared"]}
    assert held_out[LOSS_LAW, "half of the runs"] > 0.99
    frontier = record["frontier"]
    assert frontier["cost"]["factor"] == pytest.approx(6)
    assert len(frontier["best"]) == 7
    assert len(record["choices"]) == 5
    spent = [choice["shape"]["tokens"] * choice["shape"]["flops_per_token"] for choice in record["choices"]]
    assert spent == pytest.approx([choice["flops"] for choice in record["choices"]])
    assert all(choice["shape"]["blocks"] <= 32 for choice in record["choices"])
    tokens = [one["tokens"]["value"] for one in frontier["best"]]
    assert tokens == sorted(tokens)


def test_what_is_missing_costs_the_laws_that_need_it() -> None:
    points = Points.from_rows([{k: v for k, v in row.items() if k != "flops"} for row in rows("hstu")])
    [one] = study_laws(points, metric="hr@10", replicates=2)
    assert list(one.laws) == [LOSS_LAW, SHAPE_LAW]
    assert "no column 'flops'" in one.reasons["best shapes"]
    assert "no column 'flops'" in one.reasons["loss in compute"]
    assert "no column 'flops'" in one.reasons["frontier"]
    assert "no column 'hr@10'" in one.reasons["hr@10 in parameters, plain power law"]
    assert one.record()["frontier"] is None
    assert study_laws(points.where(np.zeros(len(points), bool))) == []


def test_points_of_runs_up_to_their_final_one() -> None:
    points = Points.of(
        {
            "run": np.array(["a", "a", "a", "b", "b"]),
            "tokens": [10, 20, 30, 10, 20],
            "final": [False, True, False, False, False],
        }
    )
    assert until_final(points).column("tokens").tolist() == [10, 20, 10, 20]  # b has no final one: all
    assert finals(points).column("tokens").tolist() == [20]
    bare = Points.of({"tokens": [1, 2]})
    assert len(until_final(bare)) == len(finals(bare)) == 2


@pytest.mark.parametrize("replicates", [1, 0, -1])
def test_intervals_need_a_bootstrap(replicates: int) -> None:
    with pytest.raises(UserError, match=f"two bootstrap replicates or more, not {replicates}"):
        study_laws(loss_points(0.005, seed=4), replicates=replicates)
