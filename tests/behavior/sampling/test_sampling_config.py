from __future__ import annotations

from typing import Any

import pytest

from behavior.config import meaning_of, parse_config
from behavior.errors import UserError
from behavior.sampling.config import SamplingConfig, StochasticLength


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 5}, "stride is for window: sliding, not window: newest"),
        ({"window": "random", "stride": 5}, "stride is for window: sliding, not window: random"),
        ({"window": "sliding", "stride": 0}, "'stride': .* greater than or equal to 1"),
        ({"window": "last"}, "'window': .*'newest', 'sliding' or 'random'"),
        ({"quotas": {"view": 0}}, "'quotas.view': .* greater than or equal to 1"),
        ({"stochastic_length": {"alpha": 1.0}}, "'stochastic_length.alpha': .* greater than 1"),
        ({"stochastic_length": {"alpha": 2.1}}, "'stochastic_length.alpha': .* less than or equal to 2"),
        ({"stochastic_length": {"alfa": 1.5}}, "unknown key 'stochastic_length.alfa'"),
    ],
)
def test_errors_name_the_field(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(SamplingConfig, settings, where="test")


def test_all_fields_are_described() -> None:
    for model in (SamplingConfig, StochasticLength):
        for name in model.model_fields:
            assert meaning_of(model, name), name


def test_settings_survive_being_written_and_read() -> None:
    settings = {"window": "sliding", "stride": 5, "quotas": {"view": 9}, "stochastic_length": {"alpha": 1.5}}
    config = parse_config(SamplingConfig, settings, where="test")
    assert SamplingConfig.model_validate(config.model_dump(mode="json")) == config
    assert SamplingConfig.model_validate(SamplingConfig().model_dump(mode="json")) == SamplingConfig()
