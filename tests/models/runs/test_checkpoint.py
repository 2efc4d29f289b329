"""Checkpoint files."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from behavior.errors import UserError
from models.runs.checkpoint import (
    Checkpoint,
    check_same,
    load_checkpoint,
    load_weights,
    random_state,
    save_checkpoint,
    set_random_state,
)

CONFIG = {"model": {"kind": "hstu", "blocks": 2}, "train": {"epochs": 3, "betas": [0.9, 0.98]}}
CPU = torch.device("cpu")
DATASET = {"name": "toy", "digest": "abc"}


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)
    step(module, optimizer)
    return module, optimizer


def step(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    module(torch.rand(4, 3)).square().sum().backward()
    optimizer.step()


def saved(path: Path) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    module, optimizer = trained()
    progress = {"step": 1, "minutes": 0.5, "best": None}
    save_checkpoint(
        path,
        Checkpoint(CONFIG, DATASET, progress, module.state_dict(), optimizer.state_dict(), random_state(CPU)),
    )
    return module, optimizer


def test_everything_comes_back_and_goes_on_alike(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.safetensors"
    module, optimizer = saved(path)
    step(module, optimizer)
    loaded = load_checkpoint(path)
    assert (loaded.config, loaded.dataset) == (CONFIG, DATASET)
    assert loaded.progress == {"step": 1, "minutes": 0.5, "best": None}
    again, other = trained()
    load_weights(again, loaded.model, path)
    other.load_state_dict(loaded.optimizer)
    set_random_state(loaded.random, CPU, path)
    step(again, other)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))


def test_a_model_alone_has_no_optimizer(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, Checkpoint(CONFIG, DATASET, {}, trained()[0].state_dict()))
    assert load_checkpoint(path).optimizer is None


def test_a_crash_while_writing_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.safetensors"
    saved(path)
    before = path.read_bytes()

    def crash(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(path, Checkpoint(CONFIG, DATASET, {"step": 2}, trained()[0].state_dict()))
    assert path.read_bytes() == before
    save_checkpoint(path, Checkpoint(CONFIG, DATASET, {"step": 2}, trained()[0].state_dict()))
    assert load_checkpoint(path).progress == {"step": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["last.safetensors"]


def test_what_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    with pytest.raises(UserError, match="no checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"\x80\x04pickled")
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(path)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="not a checkpoint of lrm-kit"):
        load_checkpoint(path)
    saved(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(path)


def test_another_architecture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    saved(path)
    weights = load_checkpoint(path).model
    with pytest.raises(UserError, match=r"weight is \[2, 3\], this model has \[2, 5\]"):
        load_weights(torch.nn.Linear(5, 2), weights, path)
    with pytest.raises(UserError, match="bias is not part of this model"):
        load_weights(torch.nn.Linear(3, 2, bias=False), weights, path)
    with pytest.raises(UserError, match="left is missing"):
        load_weights(torch.nn.ParameterDict({"left": torch.zeros(1)}), weights, path)


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    saved(path)
    checkpoint = load_checkpoint(path)
    check_same(checkpoint, CONFIG, DATASET, set(), path)
    changed = {"model": {"kind": "sasrec", "blocks": 2}, "train": {"epochs": 9, "betas": [0.9, 0.98]}}
    with pytest.raises(UserError) as caught:
        check_same(checkpoint, changed, {**DATASET, "digest": "xyz"}, {"train.epochs"}, path)
    message = str(caught.value)
    assert "model.kind was 'hstu' and is now 'sasrec'" in message
    assert "data set digest was 'abc' and is now 'xyz'" in message
    assert "epochs" not in message


def test_where_there_is_no_room_the_old_one_stays_and_half_a_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    saved(path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write: ") as caught:
            saved(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.where == str(path)
    assert "make room" in str(caught.value.fix)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.safetensors"]
