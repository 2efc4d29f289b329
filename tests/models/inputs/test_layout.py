"""Layouts: whatever tokens events become, models speak of events; against sequences as lists of tokens."""

from __future__ import annotations

import doctest
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from behavior.errors import UserError
from models.attention import Causal
from models.backbones import BACKBONES
from models.data.batch import PackedBatch
from models.inputs.layout import Sizes
from models.inputs.layouts import LAYOUTS, make_layout
from models.inputs.layouts.channels import Channels
from models.inputs.layouts.picture import picture
from models.losses import LossConfig, RetrievalLoss
from models.losses.negatives import NegativeSampler
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval import RetrievalObjective
from tests.models.backbones.backbone_oracle import N
from tests.models.inputs.layout_models import (
    BEHAVIORS,
    DIM,
    FIRST,
    ITEMS,
    LENGTHS,
    batch_of,
    config_of,
    exact,
    make_events,
    make_model,
)
from tests.models.inputs.layout_oracle import SENTENCES, queries
from tests.models.inputs.layouts import OTHERS
from tests.models.training import test_captured_step

OURS = list(LAYOUTS)
"""Those of the package."""


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line each is all that a layout needs to be chosen by `embedding.layout`."""
    for name, make in OTHERS.items():
        monkeypatch.setitem(LAYOUTS, name, make)


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
