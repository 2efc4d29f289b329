"""Layouts the slow obvious way: one sequence as a list of tokens, from the definition, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.backbones import BackboneConfig
from tests.models.backbones.backbone_oracle import Parameters, Story, of_one_sequence


@dataclass
class Event:
    """One event of a window, and when the one after it is asked for."""

    item: int
    behavior: int
    time: int
    asked_at: int
    asked_behavior: int = 0


@dataclass
class Token:
    vector: Tensor
    position: int
    time: int
    asks_at: int


@dataclass
class Sentence:
    """The tokens of a sequence, and of each event the number of the token that asks what follows it."""

    tokens: list[Token]
    asking: list[int]
    context: int = 0
    candidates: int = 0


Sentences = Callable[[list[Event], Parameters], Sentence]


def event_tokens(events: list[Event], weights: Parameters) -> Sentence:
    """One token an event."""
    tokens = []
    for place, event in enumerate(events):
        vector = weights["item.weight"][event.item]
        for name, behavior in (("behavior", event.behavior), ("query_behavior", event.asked_behavior)):
            if f"{name}.weight" in weights:
                vector = vector + weights[f"{name}.weight"][behavior]
        tokens.append(Token(vector, place, event.time, event.asked_at))
    return Sentence(tokens, list(range(len(events))))


def items_and_behaviors(events: list[Event], weights: Parameters) -> Sentence:
    """`c c i b i b`; the tokens of context happen, and ask, when the first event happens."""
    start = events[0].time
    tokens = [Token(vector, place, start, start) for place, vector in enumerate(weights["layout.start"])]
    asking = []
    for event in events:
        tokens.append(Token(weights["item.weight"][event.item], len(tokens), event.time, event.time))
        asking.append(len(tokens))
        tokens.append(
            Token(weights["behavior.weight"][event.behavior], len(tokens), event.time, event.asked_at)
        )
    return Sentence(tokens, asking, context=2)


def even_items(events: list[Event], weights: Parameters) -> Sentence:
    """A token at time 0, and those of events with an even item."""
    tokens, asking = [Token(weights["layout.start"], 0, 0, 0)], []
    for event in events:
        if event.item % 2 == 0:
            vector = weights["item.weight"][event.item]
            tokens.append(Token(vector, len(tokens), event.time, event.asked_at))
        asking.append(len(tokens) - 1)
    return Sentence(tokens, asking)


def candidates(events: list[Event], weights: Parameters) -> Sentence:
    """The last two events stand where the first of them does."""
    sentence = event_tokens(events, weights)
    sentence.candidates = min(2, len(events))
    for token in sentence.tokens:
        token.position = min(token.position, len(events) - sentence.candidates)
    return sentence


SENTENCES: dict[str, Sentences] = {
    "event": event_tokens,
    "items_and_behaviors": items_and_behaviors,
    "even_items": even_items,
    "candidates": candidates,
}


def queries(layout: str, parameters: Parameters, config: BackboneConfig, events: list[Event]) -> Tensor:
    """[events, dim] what a model's backbone says at the tokens that ask.

    Args:
        layout: one of `SENTENCES`.
        parameters: of the model, by name.
        config: of its backbone.
        events: of one sequence, the oldest first.
    """
    weights = {name.removeprefix("embedding."): value for name, value in parameters.items()}
    backbone = {name.removeprefix("backbone."): value for name, value in parameters.items()}
    sentence = SENTENCES[layout](events, weights)
    rows = []
    for token in sentence.tokens:
        row = token.vector * (math.sqrt(config.dim) if config.scales_input else 1.0)
        rows.append(row + weights["position"][token.position] if "position" in weights else row)
    story = Story(
        [token.asks_at for token in sentence.tokens],
        [token.time for token in sentence.tokens],
        [token.position for token in sentence.tokens],
        sentence.context,
        sentence.candidates,
    )
    out = of_one_sequence(rows, backbone, config, story)
    return torch.stack([out[token] for token in sentence.asking])
