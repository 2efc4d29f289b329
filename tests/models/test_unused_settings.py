"""Settings that change nothing, as others stand, are refused; runs that have such go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from behavior.config import Config, apply_overrides
from behavior.errors import UsageError, UserError
from models.config import RunConfig, load_config
from models.evaluate_run import evaluate
from models.losses.config import LossConfig, NegativesConfig, ViewsConfig
from models.runs.checkpoint import load_checkpoint, save_checkpoint
from models.runs.run_folder import open_run, settings_to_resume
from models.training import refit, train
from tests.models.training.training_runs import circle, settings

LEARNED = {"history": "loss.history=learned", "jumps": "loss.jumps=learned", "trends": "loss.trends=learned"}


def other_value(config: Config, name: str) -> Any:
    """A value that a setting may have and does not have by default."""
    value = getattr(config, name)
    known = {"jump_terms": ["recency"], "history_terms": ["recency"], "jump_tables": ["forward"]}
    choices = {
        "history_keys": "items", "jump_training": "apart", "jump_own": "subtract", "trend_of": "all",
        "masking": "random",
    }  # fmt: skip
    if name in known:
        return known[name]
    return choices[name] if isinstance(value, str) else [3.0] if isinstance(value, list) else value / 2 + 0.01


@pytest.mark.parametrize("switch", LEARNED)
def test_every_setting_of_what_is_off_is_refused(switch: str) -> None:
    prefix = switch.removesuffix("s") + "_" if switch != "history" else "history_"
    names = [name for name in LossConfig.model_fields if name.startswith(prefix)]
    assert len(names) >= 2
    for name in names:
        value = other_value(LossConfig(), name)
        if isinstance(getattr(LossConfig(), name), int):
            value = int(value) + 1
        setting = f"loss.{name}={json.dumps(value)}"
        more = ["loss.jump_own=subtract"] if name == "jump_tables" else []
        with pytest.raises(UsageError, match="jump_own" if more else name) as caught:
            load_config("default", [setting, *more])
        if not more:
            assert f"{switch} is none: set {switch} to learned, or leave {name} out" in str(caught.value)


SAMPLED = {"source": "mixed", "count": 7, "sharing": "batch", "popularity_power": 0.5, "logq": True}


@pytest.mark.parametrize("name", SAMPLED)
def test_so_is_sampling_where_nothing_is_sampled(name: str) -> None:
    setting = f"loss.negatives.{name}={json.dumps(SAMPLED[name])}"
    with pytest.raises(UsageError, match=r"'loss\.negatives': negatives\.") as caught:
        load_config("default", ["loss.kind=full_softmax", setting])
    assert (
        f"kind is full_softmax, which samples none: set kind to another loss, or leave negatives.{name}"
        in (str(caught.value))
    )
    if name in ("count", "sharing", "popularity_power"):
        with pytest.raises(UsageError, match=f"{name} is .*, and negatives.source is in_batch"):
            load_config("default", ["loss.negatives.source=in_batch", setting])
    load_config("default", ["loss.kind=sampled_softmax", setting])


def test_a_recipe_of_sampled_negatives_may_become_the_full_softmax() -> None:
    assert load_config("ml-1m/hstu", ["loss.kind=full_softmax"]).loss.negatives.count == 128
    load_config("default", ["loss.kind=full_softmax", "loss.negatives.domain=within"])
    # Masses beside the candidates start from as many as that.
    load_config("default", ["loss.negatives.source=in_batch", "loss.negatives.count=7", LEARNED["history"]])


@pytest.mark.parametrize("name", sorted(set(ViewsConfig.model_fields) - {"weight"}))
def test_so_is_every_setting_of_views(name: str) -> None:
    value = other_value(ViewsConfig(), name)
    value = 7 if name == "items" else value
    with pytest.raises(UsageError, match=f"{name} is .*, and weight is 0: set weight"):
        load_config("default", [f"loss.views.{name}={value}"])
    load_config("default", [f"loss.views.{name}={value}", "loss.views.weight=0.1"])


@pytest.mark.parametrize(
    ("setting", "with_it", "why"),
    [
        ("loss.calibration=0.5", ["loss.kind=gbce"], "kind is sampled_softmax: set kind to gbce"),
        ("loss.attributes=[genre]", ["loss.attributes_weight=0.1"], "attributes_weight is 0"),
        ("embedding.features_on=input", ["embedding.features=add"], "features is none: set features to a"),
        ("embedding.item_features=[genre]", ["embedding.features=add"], "features is none"),
        ("embedding.max_feature_values=3", ["embedding.features=add"], "features is none"),
        ("embedding.max_feature_values=3", ["embedding.user_features=all"], "features is none"),
        ("loader.sampling.quota_select=newest", ["loader.sampling.quotas={view: 3}"], "there are no quotas"),
        ("loss.history_dim=8", ["loss.history_terms=[product]", LEARNED["history"]], "history is none"),
        ("loss.jump_share=0.3", ["loss.jump_training=apart", LEARNED["jumps"]], "jumps is none"),
        ("task.label=buy", ["task.kind=ranking"], "kind is retrieval: set task.kind to ranking"),
        ("task.retrieval_weight=2", ["task.kind=ranking"], "kind is retrieval"),
        ("task.head=dot", ["task.kind=ranking"], "kind is retrieval"),
        ("evaluation.known_only=true", ["task.kind=ranking"], "kind is retrieval"),
        ("task.negatives.ratio=1", ["task.kind=ranking"], "kind is retrieval"),
        ("task.negatives.judged=2", ["task.kind=ranking", "task.negatives.ratio=1"], "ratio is 0"),
    ],
)
def test_settings_count_only_beside_others(setting: str, with_it: list[str], why: str) -> None:
    name = setting.partition("=")[0].split(".")[-1]
    with pytest.raises(UsageError, match=rf"{name} is .*{why}.*or leave [a-z.]*{name} out") as caught:
        load_config("default", [setting])
    assert caught.value.where == f"--set {setting}"
    load_config("default", [setting, *with_it])


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (["history_terms=[recency]", "history_dim=8", "history=learned"], "history_terms has no product"),
        (["jump_terms=[recency]", "jump_dim=8", "jumps=learned"], "jump_terms has no product"),
        (["jump_share=0.3", "jumps=learned"], "jump_training is joint: set jump_training to apart"),
        (["jump_folds=8", "jumps=learned", "jump_own=subtract"], "jump_own is subtract"),
        (["jump_session_seconds=5", "jumps=learned"], "jump_tables is .both.: add session to jump_tables"),
        (
            ["jump_backward=0.1", "jumps=learned", "jump_own=subtract", "jump_tables=[forward]"],
            "jump_tables is .forward.: add both",
        ),
    ],
)
def test_parts_of_what_is_on_may_be_off(changed: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        load_config("default", [f"loss.{setting}" for setting in changed])


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (["experts=8", "head=mlp"], "head is mlp, which has none: set head to mmoe or ple"),
        (["head_dims=[8]", "head=dot"], "head is dot, which has no hidden layers"),
        (["head_dropout=0.1", "head=dot"], "head is dot, which has no hidden layers"),
        (["head_dims=[8, 8]", "head=ffn"], "head is ffn, which has one hidden layer"),
        (["negatives.power=0.5", "negatives.ratio=1"], "drawn is uniform: set drawn to popularity"),
    ],
)
def test_so_are_settings_of_another_head_or_draw(changed: list[str], why: str) -> None:
    ranking = ["task.kind=ranking", "task.label=buy"]
    with pytest.raises(UsageError, match=why):
        load_config("default", [*ranking, *(f"task.{setting}" for setting in changed)])
    load_config("default", [*ranking, "task.head=ffn", "task.head_dims=[8]"])
    load_config("default", [*ranking, "task.head=ple", "task.head_dims=[8, 8]", "task.experts=2"])
    load_config("ml-1m/ranking-hstu", ["task.head=dot"])  # the recipe's own widths are no mistake


OF_RETRIEVAL = {
    "loss.kind": "full_softmax",
    "loss.temperature": 0.1,
    "loss.normalize": False,
    "loss.label_smoothing": 0.1,
    "loss.item_bias": "popularity",
    "loss.negatives.source": "mixed",
    "loss.negatives.count": 5,
    "loss.negatives.sharing": "batch",
    "loss.negatives.popularity_power": 0.5,
    "loss.negatives.domain": "within",
    "loss.negatives.logq": True,
    "evaluation.cutoffs": [5, 10],
    "evaluation.exclude_seen": True,
    "evaluation.candidates": "domain",
    "evaluation.log_loss": True,
    "evaluation.new_items": "leave_out",
}


@pytest.mark.parametrize("name", OF_RETRIEVAL)
def test_so_are_settings_of_retrieval_where_ranking_alone_is_trained(name: str, tmp_path: Path) -> None:
    setting = f"{name}={json.dumps(OF_RETRIEVAL[name])}"
    ranking = ["task.kind=ranking", "task.label=buy"]
    with pytest.raises(UsageError, match=f"{name} is .*, and task.retrieval_weight is 0.*set task") as caught:
        load_config("default", [*ranking, setting])
    assert caught.value.where == f"--set {setting}"
    load_config("default", [*ranking, "task.retrieval_weight=0.2", setting])
    load_config("default", [setting])
    recipe = tmp_path / "retrieval.yaml"
    recipe.write_text(yaml.safe_dump(apply_overrides({}, [setting])))
    load_config(recipe, ranking)  # what it says of retrieval is no mistake


def test_those_of_the_loss_are_all_that_there_are() -> None:
    """Besides those that other settings of the loss turn on, and those that ranking refuses at any weight."""
    names = {name.removeprefix("loss.") for name in OF_RETRIEVAL if name.startswith("loss.")}
    of_others = {name for unused in LossConfig().unused() for name in unused.names}
    refused = {"loss_on", "history", "jumps", "trends", "next_behavior_weight", "behavior_weights"}
    refused |= {"attributes_weight", "views"}
    negatives = {f"negatives.{name}" for name in NegativesConfig.model_fields}
    assert names | of_others | refused == set(LossConfig.model_fields) - {"negatives"} | negatives


def test_runs_that_have_such_settings_are_evaluated_resumed_and_refitted(tmp_path: Path) -> None:
    """As they were made before they were refused."""
    data = circle(tmp_path / "data")
    train(settings("train.epochs=1"), data, tmp_path / "run")
    run = open_run(tmp_path / "run")
    stale = {"history_dim": 8, "jump_share": 0.5}
    record = yaml.safe_load(run.config_file.read_text())
    record["loss"] |= stale
    run.config_file.write_text(yaml.safe_dump(record))
    for path in (run.best, run.last):
        saved = load_checkpoint(path)
        saved.config["loss"] |= stale
        save_checkpoint(path, saved)
    before = evaluate(tmp_path / "run", device="cpu")
    config = load_config(settings_to_resume(tmp_path / "run"), ["train.epochs=2"])
    assert isinstance(config, RunConfig)
    train(config, data, tmp_path / "run", resume=True)
    assert evaluate(tmp_path / "run", checkpoint="last", device="cpu")["users"] == before["users"]
    refit(tmp_path / "run", tmp_path / "refit")
    copied = tmp_path / "recipe.yaml"
    copied.write_text(run.config_file.read_text())
    with pytest.raises(UserError, match="history_dim is 8, and history is none") as caught:
        load_config(copied)
    assert caught.value.where == f"recipe {copied}"


def test_what_a_recipe_details_may_be_turned_off(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("loss: {trends: learned, trend_hours: [3.0], views: {weight: 0.1, items: 9}}")
    off = ["loss.trends=none", "loss.views.weight=0"]
    assert load_config(recipe, off).loss.trend_hours == [3.0]
    for given in ("loss.trend_hours=[4.0]", "loss={trends: none, trend_hours: [4.0]}", "loss.views.items=8"):
        with pytest.raises(UsageError, match=r"and (trends is none|weight is 0)") as caught:
            load_config(recipe, [*off, given])
        assert caught.value.where == f"--set {given}"


def test_votes_by_a_fixed_share_are_refused_within_domains(tmp_path: Path) -> None:
    apart = ["loss.jumps=learned", "loss.jump_training=apart"]
    with pytest.raises(UsageError, match="a share of what all items have together"):
        load_config("default", [*apart, "loss.negatives.domain=within"])
    load_config("default", apart)
