"""Layouts: whatever tokens events become, models speak of events; against sequences as lists of tokens."""

from __future__ import annotations

import doctest
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.attention import Causal, dispatch
from models.backbones import BACKBONES, BackboneConfig, build_backbone
from models.build import build_task
from models.config import load_config
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.data.columns import Column, Columns
from models.data.origins import Own
from models.data.side import SideInformation
from models.evaluate_run import evaluate
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import NO_SIDE, InputEmbedding
from models.inputs.layout import Sizes
from models.inputs.layouts import LAYOUTS, make_layout
from models.inputs.layouts.channels import Channels
from models.inputs.layouts.event import OneTokenPerEvent
from models.inputs.layouts.picture import picture
from models.inputs.tokens import Tokens
from models.losses import LossConfig, RetrievalLoss
from models.losses.negatives import NegativeSampler
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval import RetrievalModel, RetrievalObjective
from models.training import static_input, train
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.backbones.backbone_oracle import N
from tests.models.evaluation import evaluation_oracle, run_oracle
from tests.models.inputs.layout_oracle import SENTENCES, Event, queries
from tests.models.inputs.layouts import OTHERS
from tests.models.shards import write_shards
from tests.models.training import test_captured_step, test_captured_training
from tests.models.training.training_runs import circle, settings

DIM, FIRST, ITEMS, BEHAVIORS = 8, 2, 6, 2
LENGTHS = [4, 1, 0, 7]
TWO = ("view", "buy")
OURS = list(LAYOUTS)
"""Those of the package."""


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line each is all that a layout needs to be chosen by `embedding.layout`."""
    for name, make in OTHERS.items():
        monkeypatch.setitem(LAYOUTS, name, make)


def make_events(lengths: list[int], seed: int = 0) -> list[list[Event]]:
    """Irregular times; what is asked for is the next event, that of the last one is of any behavior."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    sequences = []
    for length in lengths:
        time, events = draw(0, 10**6), []
        for _ in range(length):
            ahead = time + 4 ** draw(0, 9)
            events.append(Event(draw(1, FIRST + ITEMS), draw(1, BEHAVIORS + 1), time, ahead))
            events[-1].asked_behavior = draw(1, BEHAVIORS + 1)
            time = ahead
        for event, following in pairwise(events):
            event.asked_behavior = following.behavior
        sequences.append(events)
    return sequences


def batch_of(sequences: list[list[Event]]) -> PackedBatch:
    batch = PackedBatch.from_lists(
        [[event.item for event in events] for events in sequences],
        behaviors=[[event.behavior for event in events] for events in sequences],
        timestamps=[[event.time for event in events] for events in sequences],
        query_times=[[event.asked_at for event in events] for events in sequences],
    )
    wanted = [event.asked_behavior for events in sequences for event in events]
    return batch.with_values(target_behavior=torch.tensor(wanted, dtype=torch.int64))


def make_model(
    layout: str, config: BackboneConfig, *, side: SideInformation = NO_SIDE, **embedded: Any
) -> RetrievalModel:
    """A model whose parameters are all far from their initial values."""
    torch.manual_seed(0)
    catalog = ItemCatalog(FIRST + ITEMS, FIRST, torch.ones(FIRST + ITEMS, dtype=torch.int64))
    embedding = InputEmbedding(
        EmbeddingConfig(layout=layout, **embedded),
        catalog,
        num_behaviors=BEHAVIORS,
        dim=DIM,
        max_length=N,
        dropout=0.0,
        learned_positions=config.has_learned_positions,
        scale_items=config.scales_input,
        side=side,
    )
    backbone = build_backbone(config, max_length=N, max_tokens=embedding.layout.max_tokens(N))
    model = RetrievalModel(embedding, backbone, first_item=FIRST, num_items=ITEMS, normalize=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4)
    return model


def exact(model: RetrievalModel) -> dict[str, Tensor]:
    return {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}


def config_of(kind: str, **settings_: Any) -> BackboneConfig:
    return BackboneConfig(kind=kind, blocks=2, dim=DIM, heads=2, dropout=0.0, **settings_)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("layout", SENTENCES)
def test_every_backbone_takes_every_layout(layout: str, kind: str) -> None:
    """Queries of all events, and the gradients of all parameters, in float64."""
    config = config_of(kind, attention="reference")
    model, sequences = make_model(layout, config), make_events(LENGTHS)
    parameters = exact(model)
    expected = torch.cat([queries(layout, parameters, config, events) for events in sequences if events])
    for parameter in model.parameters():
        parameter.data = parameter.data.double()
    x, tokens = model.embedding(batch_of(sequences))
    found = tokens.queries(model.backbone(x, tokens))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    gradient = torch.randn(expected.shape, dtype=torch.float64)
    mine = torch.autograd.grad(found, list(model.parameters()), gradient, materialize_grads=True)
    theirs = torch.autograd.grad(expected, list(parameters.values()), gradient, materialize_grads=True)
    for name, one, other in zip(parameters, mine, theirs, strict=True):
        other[0] = 0.0 if name.endswith(("item.weight", "behavior.weight")) else other[0]  # padding
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("layout", SENTENCES)
@pytest.mark.parametrize("kind", ["hstu", "llama"])
def test_the_usual_kernels_take_every_layout_too(layout: str, kind: str) -> None:
    """Those that need to know lengths on the host."""
    config = config_of(kind)
    model, sequences = make_model(layout, config), make_events(LENGTHS)
    expected = torch.cat([queries(layout, exact(model), config, events) for events in sequences if events])
    torch.testing.assert_close(model(batch_of(sequences)), expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", SENTENCES)
def test_positions_of_the_loss_are_events(layout: str) -> None:
    """Cross-entropy at each event that has a target, one after the other."""
    config = config_of("hstu")
    model, sequences = make_model(layout, config), make_events(LENGTHS)
    batch = batch_of(sequences)
    batch.target.copy_(torch.randint(FIRST, FIRST + ITEMS, batch.target.shape))
    batch.target[1::3] = 0
    loss = RetrievalLoss(
        LossConfig(kind="full_softmax", temperature=0.5, normalize=False),
        NegativeSampler(torch.ones(FIRST + ITEMS, dtype=torch.int64), FIRST),
    )
    parameters = exact(model)
    asked = torch.cat([queries(layout, parameters, config, events) for events in sequences if events])
    items = parameters["embedding.item.weight"][FIRST:]
    terms = [
        torch.nn.functional.cross_entropy(query @ items.T / 0.5, target - FIRST)
        for query, target in zip(asked, batch.target, strict=True)
        if target > 0
    ]
    found = RetrievalObjective(model, loss)(LossBatch(batch))
    torch.testing.assert_close(found, (sum(terms) / len(terms)).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [*OURS, *OTHERS])
def test_a_run_is_evaluated_by_the_event_that_asks(layout: str, tmp_path: Path) -> None:
    """Trained and evaluated in batches, against the model asked for one user after the other."""
    users = evaluation_oracle.history_users()
    shards = write_shards(tmp_path / "data", users, evaluation_oracle.WORLD)
    told = [f"embedding.behaviors={'add' if layout in ('event', 'candidates') else 'none'}"]
    told.append(f"embedding.query_behavior={'none' if layout == 'behavior_first' else 'add'}")
    config = load_config("default", [*run_oracle.SETTINGS, *told, f"embedding.layout={layout}"])
    run_oracle.check_run(config, shards, tmp_path / "run", users, "first", evaluation_oracle.BUYS)


@pytest.mark.parametrize("layout", SENTENCES)
@pytest.mark.parametrize("kind", ["hstu", "llama"])
def test_steps_of_fixed_size_are_those_of_lengths_known(
    layout: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a captured CUDA graph is made of: padding changes no loss and no weight."""
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    config = settings(*test_captured_step.EXACT, f"model.kind={kind}", f"embedding.layout={layout}")
    assert test_captured_step.check_alike(config, circle(tmp_path, TWO), monkeypatch) > 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("layout", SENTENCES)
@pytest.mark.parametrize("kind", ["hstu", "fuxi", "llama"])
def test_replayed_cuda_graphs_take_every_layout(layout: str, kind: str, tmp_path: Path) -> None:
    """Over four epochs of several sizes each, with the kernels of the GPU."""
    shards = circle(tmp_path / "data", TWO)
    config = (
        *test_captured_training.EXACT,
        "train.device=cuda",
        "train.epochs=4",
        f"model.kind={kind}",
        f"embedding.layout={layout}",
    )
    train(settings(*config), shards, tmp_path / "plain")
    train(settings(*config, test_captured_training.CAPTURED), shards, tmp_path / "captured")
    test_captured_training.assert_alike(tmp_path / "captured", tmp_path / "plain", 1e-3)


@pytest.mark.parametrize("layout", SENTENCES)
def test_tokens_are_made_without_reading_anything_back(layout: str) -> None:
    model, batch = make_model(layout, config_of("hstu")), batch_of(make_events(LENGTHS))
    padded = batch.padded(events=20, sequences=6, longest=N)
    with test_captured_step.NothingRead():
        x, tokens = model.embedding(padded)
        events = tokens.queries(x)
    assert len(x) == tokens.sequences.num_tokens == len(tokens.position)
    assert tokens.sequences.max_length == model.embedding.layout.max_tokens(N)
    exact_x, exact_tokens = model.embedding(batch)
    assert torch.equal(events[: batch.num_events], exact_tokens.queries(exact_x))
    offsets = tokens.sequences.offsets.tolist()
    exact_offsets = exact_tokens.sequences.offsets.tolist()
    assert offsets[: len(exact_offsets)] == exact_offsets
    assert int(tokens.position.max()) < model.embedding.layout.max_tokens(N)


@pytest.mark.parametrize("layout", SENTENCES)
def test_a_batch_may_have_no_events(layout: str) -> None:
    model = make_model(layout, config_of("gpt", attention="reference"))
    for sequences in ([], [[], []]):
        assert model(batch_of(sequences)).shape == (0, DIM)


@pytest.mark.parametrize("layout", OURS)
def test_what_its_page_shows_is_what_it_makes(layout: str) -> None:
    """The examples in its docstring."""
    module = sys.modules[type(make_layout(layout, Sizes(DIM, BEHAVIORS))).__module__]
    found = doctest.testmod(module)
    assert (found.failed, found.attempted > 1) == (0, True)


@pytest.mark.parametrize("layout", OURS)
@pytest.mark.parametrize("time", ["known", "unknown"])
@pytest.mark.parametrize("embedded", [{}, {"query_behavior": "add"}])
def test_no_query_knows_what_follows_it(layout: str, time: str, embedded: dict[str, str]) -> None:
    """But the time of the prediction, where it is known, and the wanted behavior, where it is a condition."""
    if layout == "behavior_first" and embedded:
        pytest.skip("refused: it is told the behavior by a token")
    model = make_model(layout, config_of("hstu", attention="reference"), **embedded)
    told = bool(embedded) or layout == "behavior_first"
    (events,) = make_events([6])
    if time == "unknown":
        events = [replace(event, asked_at=event.time) for event in events]
    before, untold = model.encoded(batch_of([events]))
    for last in range(6):
        # All that follows event `last` is another; each event is the question of the one before.
        others = [replace(event) for event in events]
        for event in others[last + 1 :]:
            event.item, event.behavior = 3 + event.item % 4, 3 - event.behavior
            event.time, event.asked_at = event.time + 5000, event.asked_at + 5000
        for event, following in pairwise(others):
            event.asked_behavior = following.behavior
        others[-1].asked_behavior = 3 - events[-1].asked_behavior
        found, also = model.encoded(batch_of([others]))
        assert torch.equal(found[:last], before[:last])
        assert torch.equal(also[: last + 1], untold[: last + 1]) is not bool(embedded)
        assert torch.equal(found[last], before[last]) is not told
        others[last].asked_behavior = events[last].asked_behavior
        again = model.outputs(batch_of([others[: last + 1]]))
        torch.testing.assert_close(again, before[: last + 1])


def test_the_wanted_behavior_is_part_of_the_token_that_asks() -> None:
    config = config_of("hstu", attention="reference")
    model, sequences = make_model("interleaved", config, query_behavior="add"), make_events(LENGTHS)
    expected = [queries("interleaved", exact(model), config, events) for events in sequences if events]
    torch.testing.assert_close(model(batch_of(sequences)), torch.cat(expected).float(), rtol=1e-4, atol=1e-4)


def test_channels_begin_with_the_newest_event() -> None:
    layout, batch = make_layout("channels", Sizes(DIM, BEHAVIORS)), batch_of(make_events(LENGTHS))
    assert isinstance(layout, Channels)
    vectors = torch.randn(batch.num_events, DIM)
    tokens = layout.tokens(batch)
    moved = layout.arrange({"behavior": vectors}, tokens, batch)
    assert float((tokens.queries(moved) - vectors).detach().norm() / vectors.norm()) < 0.2


def test_work_in_channels_is_that_of_each(tmp_path: Path) -> None:
    task = build_task(settings("embedding.layout=channels"), open_shards(circle(tmp_path, TWO)))
    batch = PackedBatch.from_lists([[2, 3, 4], [5]], behaviors=[[1, 2, 2], [2]])
    assert task.token_lengths(batch) == (1, 2, 0, 1)


@pytest.mark.parametrize("layout", ["interleaved", "behavior_first", "channels"])
def test_layouts_of_behaviors_need_several(layout: str) -> None:
    with pytest.raises(UserError, match="has one behavior") as caught:
        make_layout(layout, Sizes(DIM, 1))
    assert caught.value.where == f"embedding.layout = {layout}"


@pytest.mark.parametrize(
    ("layout", "setting"),
    [
        ("interleaved", "behaviors"),
        ("channels", "behaviors"),
        ("behavior_first", "behaviors"),
        ("behavior_first", "query_behavior"),
    ],
)
def test_no_behavior_is_embedded_twice(layout: str, setting: str) -> None:
    with pytest.raises(UserError, match=f"layout '{layout}' has a token") as caught:
        make_model(layout, config_of("hstu"), **{setting: "add"})
    assert caught.value.where == f"embedding.{setting} = add"


def test_one_token_an_event_is_nothing_but_the_columns_of_the_batch() -> None:
    batch, layout = batch_of(make_events(LENGTHS)), make_layout("event", Sizes(DIM, 2))
    tokens, vectors = layout.tokens(batch), torch.randn(batch.num_events, DIM)
    assert tokens.sequences is batch.sequences
    assert (tokens.position, tokens.timestamp) == (batch.position, batch.timestamp)
    assert tokens.query_time is batch.query_time
    assert layout.arrange({"item": vectors}, tokens, batch) is vectors
    assert tokens.queries(vectors) is vectors


def test_columns_that_are_read_are_named() -> None:
    base = {"item", "position", "timestamp", "query_time"}
    assert set(make_model("event", config_of("hstu")).embedding.columns.names) == base
    other = make_model("items_and_behaviors", config_of("hstu"))
    assert set(other.embedding.columns.names) == {*base, "behavior"}


def test_an_unknown_layout_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UserError, match="no layout 'events'") as caught:
        make_layout("events", Sizes(DIM, 2))
    assert caught.value.where == "embedding.layout"
    assert "did you mean 'event'? A layout of your own: add it to" in (caught.value.fix or "")


class TwiceTheTime(OneTokenPerEvent):
    """Keys are told their time by a column of the layout's own."""

    when = Column("when", origin=Own("timestamp"))
    columns = Columns.merged(OneTokenPerEvent.columns, [when])

    def tokens(self, batch: PackedBatch) -> Tokens:
        return replace(super().tokens(batch), timestamp=batch["when"])


def test_a_column_that_a_layout_asks_for_arrives_in_training_and_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LAYOUTS, "twice", lambda sizes: TwiceTheTime())
    shards = circle(tmp_path / "data")
    reports = []
    for layout in ("event", "twice"):
        train(settings(f"embedding.layout={layout}"), shards, tmp_path / layout)
        reports.append(evaluate(tmp_path / layout, device="cpu") | {"run": ""})
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("event", (4, 1, 0, 7)),
        ("interleaved", (8, 2, 0, 14)),
        ("behavior_first", (9, 3, 1, 15)),
        ("items_and_behaviors", (10, 4, 2, 16)),
    ],
)
def test_work_is_counted_in_tokens(layout: str, expected: tuple[int, ...], tmp_path: Path) -> None:
    task = build_task(settings(f"embedding.layout={layout}"), open_shards(circle(tmp_path, TWO)))
    assert task.token_lengths(batch_of(make_events(LENGTHS))) == expected


@pytest.mark.parametrize(
    ("layout", "length", "local"),
    [
        ("event", 8, (3, 1)),
        ("items_and_behaviors", 8, (6, 2)),  # two tokens an event, besides context
        ("event", 4, None),  # no history is longer than window and front together
    ],
)
def test_windows_of_attention_count_events(
    tmp_path: Path, layout: str, length: int, local: tuple[int, int] | None
) -> None:
    changes = [f"embedding.layout={layout}", f"model.max_length={length}"]
    config = settings(*changes, "model.attention_window=3", "model.attention_global=1")
    assert build_task(config, open_shards(circle(tmp_path))).model.backbone.local == local


def test_a_mask_has_one_window() -> None:
    mask = Causal(context=2).within(4, 1)
    assert (mask.window, mask.prefix, mask.context) == (4, 1, 2)
    with pytest.raises(ValueError, match="has a window already"):
        mask.within(3, 0)


def test_the_question_of_a_repeated_sample_is_its_own() -> None:
    """Behind the last event of a copy stands the first one of the next copy, not what is asked for."""
    batch = PackedBatch.from_lists([[2, 3, 2, 3]], behaviors=[[1, 2, 1, 2]])
    batch = batch.with_values(target_behavior=torch.tensor([2, 2, 2, 2]), position=torch.tensor([0, 1, 3, 4]))
    layout = make_layout("behavior_first", Sizes(DIM, BEHAVIORS))
    assert picture(layout, batch) == "b1 i2 b2? i3 b2? i2 b2? i3 b2?"
    assert layout.tokens(batch).position.tolist() == [0, 1, 2, 3, 4, 7, 8, 9, 10]


@pytest.mark.parametrize("layout", OURS)
def test_vectors_may_be_of_two_precisions(layout: str) -> None:
    """Under autocast items with features are in half precision, and tables are not."""
    batch, made = batch_of(make_events(LENGTHS)), make_layout(layout, Sizes(DIM, BEHAVIORS))
    names = ["item", *sorted(made.vectors)]
    vectors = {name: torch.randn(batch.num_events, DIM) for name in names}
    half = {**vectors, "item": vectors["item"].bfloat16()}
    exact = {**vectors, "item": half["item"].float()}
    tokens = made.tokens(batch)
    torch.testing.assert_close(
        made.arrange(half, tokens, batch), made.arrange(exact, tokens, batch), check_dtype=False
    )
