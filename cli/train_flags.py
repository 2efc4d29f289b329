"""The flags of `lrm train` that are settings: which go together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from behavior.errors import UsageError
from cli.console import warn

FLAGS = {
    "task.kind": "--task",
    "model.kind": "--backbone",
    "model.time": "--time",
    "train.epochs": "--epochs",
    "train.seed": "--seed",
    "train.batch_sequences": "--batch-sequences",
    "train.batch_tokens": "--batch-tokens",
    "train.devices": "--devices",
}
"""The flag of each setting that has one."""


def check_flags(given: Mapping[str, Any], settings: Iterable[str]) -> None:
    """Refuse flags and settings that contradict each other.

    Args:
        given: setting -> value of the flags that were given.
        settings: those of --set.

    Raises:
        UsageError: a setting is given by its flag and by --set, or two that exclude each other are given.
    """
    keys = [setting.partition("=")[0].strip() for setting in settings]
    for key in given:
        if key in keys:
            raise UsageError(
                f"'{key}' is given twice", where=f"{FLAGS[key]}, --set {key}", fix="leave one of them out"
            )
    both = {"train.batch_sequences", "train.batch_tokens"}
    if both <= {*given, *keys}:
        raise UsageError(
            "a step is so many sequences or so many events, not both",
            where="--batch-sequences, --batch-tokens",
            fix="leave one of them out",
        )


def check_refit(refit: Path | None, *, every: bool, recipe: str | None, init: Path | None) -> None:
    """Refuse flags that go with no refit, or with nothing else.

    Raises:
        UsageError: `--all` without `--refit`; or what the refitted run has decided.
    """
    if refit is None:
        if every:
            raise UsageError(
                "--all says what a refit trains on", where="--all", fix="add --refit RUN, or leave it out"
            )
        return
    for flag, value in {"--recipe": recipe, "--init": init}.items():
        if value is not None:
            raise UsageError(
                "a refit has the settings of its run, and fresh weights",
                where=f"--refit, {flag}",
                fix=f"leave {flag} out",
            )


def data_of_run(out: Path, *, resume: bool) -> str:
    """The data set of a run that is resumed, where none is named.

    Raises:
        UsageError: nothing is resumed, and nothing is named.
    """
    if not resume:
        raise UsageError("no data set is given to train on", where="--data", fix="name a shard folder")
    from models.runs.run_folder import open_run, settings_to_resume

    settings_to_resume(out)
    return open_run(out).data


def say_of_recipe(recipe: str, backbone: str) -> None:
    """Say so where a recipe was made for another backbone: all of its other settings stay."""
    from models.recipes import load_recipe, recipe_names

    own = (load_recipe(recipe).get("model") or {}).get("kind")
    if own in (None, backbone):
        return
    better = f"{recipe.rpartition('/')[0]}/{backbone}"
    advice = f"; the recipe of {backbone} is {better}" if better in recipe_names() else ""
    warn(f"recipe {recipe} is for {own}; --backbone {backbone} keeps all of its other settings{advice}")
