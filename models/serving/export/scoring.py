"""How scores are made of vectors, in words for programs and people who only have these."""

from __future__ import annotations

from typing import Any

from behavior.config import did_you_mean
from behavior.errors import UserError
from models.serving.load import TrainedModel
from models.serving.score import asked_by_default
from models.tasks.retrieval import RetrievalModel


def retrieval_model(trained: TrainedModel) -> RetrievalModel:
    """The model, where it has vectors of items.

    Raises:
        UserError: it has none.
    """
    if not isinstance(trained.module, RetrievalModel):
        raise UserError(
            f"a model of task '{trained.config.task.kind}' has no vectors of items",
            where=f"task.kind = {trained.config.task.kind}",
            fix="name a run of task.kind=retrieval",
        )
    return trained.module


def other_masses(model: RetrievalModel) -> dict[str, str]:
    """What a ranking of the model has besides products of vectors, by name, and what that is."""
    found = {
        "history": "logits of the user's own past events: log(exp(score) + exp(logit)) for the items of "
        "these (loss.history)",
        "jumps": "votes of the last events for what follows their items in the logs of others (loss.jumps)",
        "trends": "logits of what is popular at the moment (loss.trends)",
    }
    return {name: what for name, what in found.items() if getattr(model, name) is not None}


def scoring_of(trained: TrainedModel) -> dict[str, Any]:
    """How the model scores: width, normalization, temperature, and what is not in the vectors.

    Raises:
        UserError: the model has no vectors of items.
    """
    model, config = retrieval_model(trained), trained.config
    masses = other_masses(model)
    product = "dot product of the user's vector and the item's"
    if masses:
        product += ", divided by the temperature, beside what is not in the vectors (docs/losses.md)"
    if model.item_bias is not None:
        product += "; the last number of an item's vector is its bias times the temperature, of a user's 1"
    return {
        "score": product,
        "dim": model.query_dim,
        "normalized": model.normalize,
        "temperature": model.temperature,
        "not_in_the_vectors": masses,
        "time": config.model.time if trained.about.has_time else "none",
        "told_behavior": model.is_told_behavior,
        "input_behaviors": config.model.input_behaviors,
        "max_length": config.model.max_length,
        "trained_on": config.loader.part,
    }


def asked_behavior(trained: TrainedModel, behavior: str | None, at: int | None) -> int:
    """The id of the behavior that is asked for, where the model is told what it is asked.

    Args:
        trained: a retrieval model.
        behavior: its name; None: the one that the run is evaluated on.
        at: when it happens; None: nothing is said of that.

    Raises:
        UserError: there is no such behavior, or the model is told no behavior, or no time.
    """
    about = trained.about
    if at is not None and (trained.config.model.time != "known" or not about.has_time):
        raise UserError(
            "the model does not know when the next event happens",
            where="--at",
            fix="leave it out, or train with model.time=known",
        )
    if behavior is None:
        return asked_by_default(trained.config, trained.shards)
    if behavior not in about.behaviors:
        raise UserError(
            f"the data set has no behavior '{behavior}'",
            where="--behavior",
            fix=did_you_mean(behavior, about.behaviors),
        )
    if not retrieval_model(trained).is_told_behavior:
        raise UserError(
            "the model is not told which behavior is wanted",
            where="--behavior",
            fix="leave it out, or train with --set embedding.query_behavior=add",
        )
    return about.behaviors.index(behavior) + 1
