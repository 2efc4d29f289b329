"""From settings to the rule that chooses the samples of a step, with all that can be wrong about them."""

from __future__ import annotations

from behavior.errors import UserError
from behavior.wording import number_of
from models.data.loading.config import LoaderConfig
from models.data.loading.steps import BySequences, ByTokens, StepRule, sample_cost


def step_rule(
    config: LoaderConfig,
    *,
    max_length: int,
    batch_sequences: int,
    batch_tokens: int | None,
    num_replicas: int,
) -> StepRule:
    """The rule for a batch size in samples, or in tokens where `batch_tokens` is given.

    Raises:
        UserError: the batch is too small for the processes or for a sample, or settings exclude each other.
    """
    cost = sample_cost(config.balance_length)
    if batch_tokens is None:
        _check_share(batch_sequences, "sequences", num_replicas)
        return BySequences(batch_sequences, num_replicas, cost)
    stochastic = config.sampling.stochastic_length
    if stochastic is not None and stochastic.balanced:
        raise UserError(
            "a budget of tokens caps what a batch costs: its samples cannot be cut together as well",
            where="loader.sampling.stochastic_length.balanced",
            fix="use batch_sequences, or leave out 'balanced'",
        )
    _check_share(batch_tokens, "tokens", num_replicas)
    rule = ByTokens(batch_tokens, num_replicas, config.lookahead, cost)
    if not rule.holds(max_length):
        raise UserError(
            f"a batch of {number_of(batch_tokens, 'token')} for "
            f"{number_of(num_replicas, 'process', 'processes')} does not hold a sequence "
            f"of {number_of(max_length, 'event')}{_told_cost(config.balance_length, max_length)}",
            where="train.batch_tokens",
            fix="set a larger batch_tokens or a smaller model.max_length",
        )
    return rule


def _check_share(batch: int, of: str, num_replicas: int) -> None:
    if batch < num_replicas:
        raise UserError(
            f"a batch of {batch} {of} is too few for {num_replicas} processes",
            where=f"train.batch_{of}",
            fix="set a larger one",
        )


def _told_cost(balance_length: int | None, max_length: int) -> str:
    if balance_length is None:
        return ""
    cost = max_length + max_length**2 // balance_length
    return f", which costs as much as {cost:,} (loader.balance_length = {balance_length:,})"
