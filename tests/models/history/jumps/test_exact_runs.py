"""Tables without the user's own pairs in runs: ranking, refits, reloaded checkpoints, refused settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import models
from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.build import build_task
from models.config import load_config
from models.data.batch import PackedBatch
from models.history.jumps import ExactJumpLogits
from models.serving.load import load_model
from models.serving.score import History
from models.tasks.retrieval import RetrievalModel
from models.training import train
from tests.behavior.cooccurrence.exact_oracle import counted
from tests.models.history.jumps.jump_oracle import votes_by_hand
from tests.models.history.jumps.test_jump_runs import FIRST, ITEMS, module_of, shards, users
from tests.models.history.jumps.test_jumps import events_of, parameters_of
from tests.models.shards import User, World, leave_one_out, write_shards
from tests.models.training import test_captured_step
from tests.models.training.training_runs import Killed, Watcher, records, same_weights, settings, weights

EXACT = (
    "loss.kind=full_softmax",
    "loss.item_bias=popularity",
    "loss.jumps=learned",
    "loss.jump_own=subtract",
    "loss.jump_tables=[forward,backward]",
    "loss.jump_neighbors=null",
    "loss.jump_events=3",
    "loss.jump_window=4",
    "loss.jump_dim=4",
    "loss.jump_terms=[product,behavior,recency,latest,count]",
    "loss.history=learned",
    "loss.history_dim=4",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exact")
    train(settings(*EXACT), shards(folder / "data"), folder / "run")
    return folder / "run"


def log_of(part: str, without: int | None = None) -> list[tuple[list[int], list[int]]]:
    """What a run of a part has counted, of all users but one."""
    found = []
    for row, user in enumerate(users()):
        if row != without:
            items = user.item[: getattr(user, part)]
            found.append(([item - FIRST for item in items], [0] * len(items)))
    return found


def expected_scores(model: RetrievalModel, history: History, part: str) -> torch.Tensor:
    """Products of vectors with a bias, copies and votes of every table, item by item in float64."""
    assert isinstance(model.jumps, ExactJumpLogits)
    assert model.history is not None
    assert model.item_bias is not None
    items, kinds = list(history.items), list(history.behaviors or ())
    times = list(history.timestamps or ())
    batch = PackedBatch.from_lists(
        [items],
        behaviors=[kinds],
        timestamps=[times],
        query_times=[[*times[1:], history.next_timestamp or 0]],
    )
    batch.target_behavior[-1] = history.next_behavior or 0
    log = log_of(part, history.user)
    count = torch.zeros(FIRST + ITEMS, dtype=torch.int64)
    for row, _ in log_of(part):
        for item in row:
            count[FIRST + item] += 1
    with torch.no_grad():
        outputs = model.outputs(batch)
        dim = outputs.shape[1]
        vectors = model.item_vectors()
        scores = model.queries(outputs)[-1, :dim] @ vectors[:, :dim].T / model.temperature + model.item_bias
        masses = scores.double().exp()
        copies = model.history.last_logits(outputs, batch)
        for place, item in enumerate(items):
            masses[item - FIRST] += copies[place].double().exp()
        for name, terms in zip(("forward", "backward"), model.jumps.votes_of, strict=True):
            counts = counted(log, name, 4, 0.5, 0)
            totals = [sum(n for (one, _), n in counts.items() if one == item) for item in range(ITEMS)]
            table = {(a + FIRST, b + FIRST): n / totals[a] for (a, b), n in counts.items()}
            of = parameters_of(terms, outputs, count)
            last = len(items) - 1
            for item, mass in votes_by_hand(of, events_of(batch, 0), last, 3, table, FIRST).items():
                masses[item - FIRST] += mass
    return masses.log()


@pytest.mark.parametrize("user", [None, 3])
def test_ranking_is_by_the_softmax_of_everything(trained: Path, user: int | None) -> None:
    loaded = load_model(trained, device="cpu")
    history = History([4, 9, 5, 6, 4], [1, 2, 1, 1, 2], [0, 60, 90, 100, 2000], 2, 2600, user=user)
    expected = expected_scores(module_of(loaded), history, "train_end")
    torch.testing.assert_close(loaded.score([history])[0].double(), expected, rtol=1e-4, atol=1e-5)
    assert models.evaluate(trained, split="test", device="cpu")["users"] == len(users())


def test_a_refit_counts_and_subtracts_validation_events_too(trained: Path, tmp_path: Path) -> None:
    models.refit(trained, tmp_path / "refit")
    loaded = load_model(tmp_path / "refit", device="cpu")
    history = History([4, 9, 5], [1, 2, 1], [0, 60, 90], 2, 2600, user=5)
    expected = expected_scores(module_of(loaded), history, "valid_end")
    torch.testing.assert_close(loaded.score([history])[0].double(), expected, rtol=1e-4, atol=1e-5)
    other = expected_scores(module_of(loaded), history, "train_end")
    assert not torch.allclose(other, expected, atol=1e-3)


def test_a_run_that_goes_on_is_the_same_run(tmp_path: Path) -> None:
    data = shards(tmp_path / "data")
    config = settings(*EXACT, "loss.jump_dropout=0.2", "optimizer.item_weight_decay=1.0")
    train(config, data, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, data, tmp_path / "killed", observer=Watcher(at_report=3))
    train(config, data, tmp_path / "killed", resume=True)
    assert records(tmp_path / "killed") == records(tmp_path / "whole")
    assert same_weights(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    assert not any("jumps.tables" in name for name in weights(tmp_path / "whole"))


def test_where_biases_of_items_and_recency_start(tmp_path: Path) -> None:
    rows = leave_one_out(*([2] * 30 for _ in range(4)), [3, 4, 5] * 3)
    data = open_shards(write_shards(tmp_path / "data", rows, World(num_items=4)))
    torch.manual_seed(0)
    model = build_task(settings("loss.kind=full_softmax", "loss.item_bias=popularity"), data).model
    torch.manual_seed(0)
    plain = build_task(settings("loss.kind=full_softmax"), data).model
    assert isinstance(model, RetrievalModel)
    assert isinstance(plain, RetrievalModel)
    counts = torch.tensor([4 * 28 + 1, 3 + 1, 2 + 1, 2 + 1]).double()
    assert model.item_bias is not None
    torch.testing.assert_close(
        model.item_bias.detach().double(), (counts / counts.sum()).log(), check_dtype=False
    )
    fading = settings("loss.kind=full_softmax", "loss.history=learned", "loss.history_fading=0.25")
    faded = build_task(fading, data).model
    assert isinstance(faded, RetrievalModel)
    assert faded.history is not None
    assert faded.history.recency is not None
    assert faded.history.recency[:4].tolist() == [0.0, -0.25, -0.5, -0.75]
    outputs, ranks = torch.randn(3, 8), torch.tensor([[2, 0, 3], [1, 1, 0]])
    scores = model.queries(outputs) @ model.item_vectors().T / model.temperature
    products = plain.queries(outputs) @ plain.item_vectors().T / model.temperature
    torch.testing.assert_close(scores, products + model.item_bias, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.item_vectors(ranks), model.item_vectors()[ranks])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["loss.jump_tables=[forward]"], "jump_own"),
        (["loss.jump_neighbors=null"], "fixed number"),
        (["loss.jump_own=subtract", "loss.jump_training=apart"], "jump_training"),
        (["loss.jump_own=subtract", "loss.jump_tables=[both,both]"], "twice"),
        (["loss.kind=bce", "loss.item_bias=popularity"], "softmax"),
    ],
)
def test_settings_that_make_no_sense_together(changed: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_config("default", ["loss.jumps=learned", *changed])


def test_sessions_need_timestamps(tmp_path: Path) -> None:
    rows = [User([2, 3, 4, 5], 2, 3) for _ in range(4)]
    data = open_shards(write_shards(tmp_path / "data", rows, World(num_items=4, timestamp_unit="none")))
    config = settings(
        "model.bias=position",
        "loss.jumps=learned",
        "loss.jump_own=subtract",
        "loss.jump_tables=[forward,session]",
    )
    with pytest.raises(UserError, match="timestamps") as raised:
        build_task(config, data)
    assert raised.value.fix == "--set 'loss.jump_tables=[forward]'"


@pytest.mark.usefixtures("reading", "small_sizes")
def test_padding_changes_no_loss_and_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(*test_captured_step.EXACT, *EXACT, "optimizer.item_weight_decay=0.5")
    assert test_captured_step.check_alike(config, shards(tmp_path), monkeypatch) > 2


reading, small_sizes = test_captured_step.reading, test_captured_step.small_sizes
