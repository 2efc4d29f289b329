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
    and_before: bool = False
    """Whether the token before the one that asks adds its output to that."""

    def asked(self, out: list[Tensor], moved: int = 0) -> Tensor:
        """[events, dim] what tokens that ask say, of the outputs of all; each `moved` places on."""
        rows = [out[moved + token] for token in self.asking]
        if self.and_before:
            rows = [row + out[moved + token - 1] for row, token in zip(rows, self.asking, strict=True)]
        return torch.stack(rows)


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


def item_then_behavior(events: list[Event], weights: Parameters) -> Sentence:
    """`i b i b`; what is wanted is part of the behavior's token."""
    tokens = []
    for place, event in enumerate(events):
        behavior = weights["behavior.weight"][event.behavior]
        if "query_behavior.weight" in weights:
            behavior = behavior + weights["query_behavior.weight"][event.asked_behavior]
        item = weights["item.weight"][event.item]
        tokens.append(Token(item, 2 * place, event.time, event.time))
        tokens.append(Token(behavior, 2 * place + 1, event.time, event.asked_at))
    return Sentence(tokens, list(range(1, len(tokens), 2)), and_before=True)


def behavior_then_item(events: list[Event], weights: Parameters) -> Sentence:
    """`b i b i b`; a behavior happens when it was asked for, and the last one is what is wanted."""
    asked = events[0].time
    tokens, asking = [], []
    for event in events:
        tokens.append(Token(weights["behavior.weight"][event.behavior], len(tokens), asked, asked))
        tokens.append(Token(weights["item.weight"][event.item], len(tokens), event.time, event.asked_at))
        asked = event.asked_at
        asking.append(len(tokens))
    wanted = weights["behavior.weight"][events[-1].asked_behavior]
    tokens.append(Token(wanted, len(tokens), asked, asked))
    return Sentence(tokens, asking, and_before=True)


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
    "interleaved": item_then_behavior,
    "behavior_first": behavior_then_item,
    "channels": event_tokens,  # of each channel
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
    if layout == "channels":
        return merged(parameters, config, events)
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
    return sentence.asked(out)


def merged(parameters: Parameters, config: BackboneConfig, events: list[Event]) -> Tensor:
    """Each behavior's events on their own; after each event its own, and the newest of all."""
    behaviors = len(parameters["embedding.behavior.weight"]) - 1
    channels = {b: [event for event in events if event.behavior == b] for b in range(1, behaviors + 1)}
    said = {b: queries("event", parameters, config, of_b) for b, of_b in channels.items() if of_b}
    nothing = torch.zeros_like(parameters["embedding.item.weight"][0])
    rows = []
    for count in range(1, len(events) + 1):
        so_far = [event.behavior for event in events[:count]]
        newest = [said[b][so_far.count(b) - 1] if b in so_far else nothing for b in channels]
        own = said[events[count - 1].behavior][so_far.count(events[count - 1].behavior) - 1]
        rows.append(own + parameters["embedding.layout.merge.weight"] @ torch.cat(newest))
    return torch.stack(rows)
