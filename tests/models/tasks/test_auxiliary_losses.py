"""Auxiliary losses beside that of retrieval: how they add up, and what refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.attention import dispatch
from models.build import build_task
from models.data.batch import PackedBatch
from models.data.versions import RowMaps
from models.losses import views
from models.runs.checkpoint import load_checkpoint
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval import RetrievalObjective, RetrievalTask
from models.training import static_input, train
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.training.test_captured_step import EXACT, check_alike
from tests.models.training.test_side_steps import shards
from tests.models.training.training_runs import ITEMS, circle, settings

ATTRIBUTES = "loss.attributes_weight=0.5"
VIEWS = ("embedding.features=tower", "embedding.id_dropout=0", "loss.views.weight=0.5", "loss.views.items=8")


def objective_of(folder: Path, *changes: str) -> RetrievalObjective:
    torch.manual_seed(0)
    task = build_task(settings("model.dropout=0", "loss.kind=full_softmax", *changes), open_shards(folder))
    assert isinstance(task, RetrievalTask)
    return task.objective.eval()


def test_attributes_of_the_target_are_predicted_by_its_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shards(tmp_path)
    with_it, without = objective_of(folder, ATTRIBUTES), objective_of(folder)
    without.model.load_state_dict(with_it.model.state_dict(), strict=False)
    batch = PackedBatch.from_lists([[2, 5, 3, 4], [6, 7]], timestamps=[[0, 60, 120, 180], [0, 60]])
    step = LossBatch(batch)
    query = with_it.model(batch)[step.positions]
    attributes = with_it.model.attributes
    assert attributes is not None
    expected = without(step) + attributes(query, batch.target[step.positions])
    torch.testing.assert_close(with_it(step), expected)
    weight = torch.tensor([2.0, 0.5, 1.0, 0.5])
    for objective in (with_it, without):
        monkeypatch.setattr(objective, "_weight", lambda step: weight)
    weighted = without(step) + attributes(query, batch.target[step.positions], weight=weight)
    torch.testing.assert_close(with_it(step), weighted)
    assert (weighted - expected).abs() > 1e-3
    only = objective_of(folder, ATTRIBUTES, "loss.attributes=[brand]").model.attributes
    assert only is not None
    assert only.labels.names == ["brand"]


def test_parts_of_a_step_count_the_views_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the positions that they have: 4 of 4, or 3 of 4 and 1 of 4."""
    folder = shards(tmp_path)
    with_it, without = objective_of(folder, *VIEWS), objective_of(folder, *VIEWS[:2])
    monkeypatch.setattr(views, "info_nce", lambda one, other, ids, temperature: torch.tensor(3.0))
    parts = [[[2, 5, 3, 4]], [[6, 7]]]
    times = [[[0, 60, 120, 180]], [[0, 60]]]
    steps = [
        LossBatch(PackedBatch.from_lists(*one, timestamps=two))
        for *one, two in zip(parts, times, strict=True)
    ]
    extra = [with_it(step, 4.0) - without(step, 4.0) for step in steps]
    torch.testing.assert_close(extra, [torch.tensor(1.5 * 3 / 4), torch.tensor(1.5 / 4)])
    torch.testing.assert_close(with_it(steps[0]) - without(steps[0]), torch.tensor(1.5))


@pytest.mark.parametrize("changes", [(ATTRIBUTES,), VIEWS])
def test_steps_of_fixed_size_are_those_of_lengths_known(
    changes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    # Random numbers differ from step to step: both views of the same items, then.
    monkeypatch.setattr(views.ItemViews, "forward", _of_all)
    assert check_alike(settings(*EXACT, *changes), shards(tmp_path), monkeypatch) > 1


def _of_all(self: views.ItemViews, embedding: torch.nn.Module) -> torch.Tensor:
    ids = torch.arange(self.first_item, self.num_item_ids)
    one, other = (embedding.item_view(ids, keep) for keep in (self.first[0], self.second[0]))
    return self.config.weight * views.info_nce(one, other, ids, 0.1)


def test_what_is_learned_is_kept_and_grows(tmp_path: Path) -> None:
    folder = shards(tmp_path / "data")
    train(settings(*VIEWS, ATTRIBUTES, "train.epochs=1"), folder, tmp_path / "run")
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors").model
    assert {name for name in saved if "labels" in name} == {
        "attributes.labels.0.table.weight",
        "attributes.labels.1.table.weight",
    }
    task = build_task(settings(*VIEWS, ATTRIBUTES), open_shards(folder))
    maps = RowMaps(torch.arange(ITEMS + 2), torch.arange(2), {"brand": torch.arange(5)})
    assert {name for name in task.table_rows(maps) if "item" not in name} == {
        "attributes.labels.0.table.weight",
        "embedding.features.0.table.weight",
        "embedding.fusion.trained",
    }


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ((ATTRIBUTES, "loss.attributes=[bran]"), "no item feature 'bran'"),
        (("loss.views.weight=1",), "made of features, and these are of ids alone"),
        (("loss.views.weight=1", "embedding.features=attention_only"), "made of features"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: tuple[str, ...], what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=what):
        build_task(settings(*changes), open_shards(shards(tmp_path)))


def test_data_without_attributes_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no item features") as caught:
        build_task(settings(ATTRIBUTES), open_shards(circle(tmp_path)))
    assert (caught.value.where or "").startswith("loss.attributes")
