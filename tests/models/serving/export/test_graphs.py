"""Exported towers and scorers against the packed model, on histories of all lengths."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from behavior.errors import UserError
from models.attention.bias import BUCKET_STARTS
from models.history.recency import RECENCY_STARTS
from models.serving.export import graphs
from models.serving.export.graphs import (
    ONNX_PACKAGES,
    _bucket,
    _search,
    _sort,
    examples_of,
    tower_and_scorer,
    traced,
    write_aoti,
)
from models.serving.export.run import export
from models.serving.load import TrainedModel
from tests.models.serving.export.padded import padded
from tests.models.serving.untrained import histories, untrained, users

LONGEST = 5
HISTORY = ["loss.history=learned", "loss.temperature=0.3"]
TOLD = ["embedding.behaviors=add", "embedding.query_behavior=add", "model.time=known"]
TRACED = {
    "hstu": TOLD,
    "fuxi": ["model.kind=fuxi", "loss.normalize=false"],
    "llama, local": ["model.kind=llama", "model.attention_window=2", "model.attention_global=1"],
    "behavior_first, history": ["embedding.layout=behavior_first", "model.time=known", *HISTORY],
    "item bias": ["loss.kind=full_softmax", "loss.item_bias=popularity", "loss.temperature=0.3"],
    "item bias, history": ["loss.kind=full_softmax", "loss.item_bias=popularity", *HISTORY],
    "channels": ["embedding.layout=channels"],
}
MISSING = [name for name in ONNX_PACKAGES if find_spec(name) is None]


def expected(trained: TrainedModel, at: int | None, behavior: int) -> np.ndarray:
    question: dict[str, Any] = {"next_timestamp": at}
    if trained.module.is_told_behavior:  # type: ignore[union-attr,operator]
        question["next_behavior"] = behavior
    return trained.score(histories(users(), **question)).numpy()


@pytest.mark.parametrize("settings", TRACED.values(), ids=list(TRACED))
def test_traced_programs_score_as_the_packed_model(settings: list[str], tmp_path: Path) -> None:
    trained = untrained(tmp_path / "data", [*settings, "model.blocks=1"])
    tower, scorer = tower_and_scorer(trained)
    inputs, scored = examples_of(tower, tower.model.query_dim)
    programs = traced(tower, inputs, LONGEST).module(), traced(scorer, scored, LONGEST).module()
    known = trained.config.model.time == "known"
    given = padded(users(), LONGEST, LONGEST, at=2000 if known else None, behavior=1)
    tensors = {name: torch.from_numpy(values) for name, values in given.items()}
    query, *mass = programs[0](*(tensors[each.name] for each in tower.inputs))
    scores = programs[1](query, *([tensors["items"]] if mass else []), *mass)
    wanted = 1 if trained.module.is_told_behavior else 2  # type: ignore[union-attr,operator]
    right = expected(trained, 2000 if known else None, wanted)
    np.testing.assert_allclose(scores.detach().numpy(), right, atol=2e-6, rtol=2e-6)


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra 'export')")
def test_onnxruntime_scores_as_the_packed_model(tmp_path: Path) -> None:
    import onnxruntime

    trained = untrained(tmp_path / "data", [*TOLD, *HISTORY, "model.blocks=1"])
    about = export(trained, tmp_path / "out", "onnx")
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == about
    tower, scorer = (
        onnxruntime.InferenceSession(str(tmp_path / "out" / about["graphs"][name]["file"]))
        for name in ("tower", "scorer")
    )
    shapes = {each["name"]: each["shape"] for each in about["graphs"]["tower"]["inputs"]}
    assert {each.name: each.shape for each in tower.get_inputs()} == shapes
    results = [each.shape for each in (*tower.get_outputs(), *scorer.get_outputs())]
    assert results == [["batch", 8], ["batch", "N"], ["batch", len(trained.item_ids)]]
    for width in (LONGEST, 2):
        people = [person for person in users() if len(person.item) <= width or width == LONGEST]
        given = padded(people, LONGEST, width, at=2000, behavior=1)
        found = dict(zip(about["graphs"]["tower"]["outputs"], tower.run(None, given), strict=True))
        found["items"] = given["items"]
        [scores] = scorer.run(None, {name: found[name] for name in about["graphs"]["scorer"]["inputs"]})
        right = expected(trained, 2000, 1)
        np.testing.assert_allclose(scores, right[: len(people)], atol=2e-6, rtol=2e-6)
    # Nobody's history is empty in the data set: such a query is zero, and nothing has mass.
    given["lengths"][:] = 0
    query, *mass = tower.run(None, given)
    assert not query.any()
    assert all((each == -np.inf).all() for each in mass)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a C++ compiler: g++ is not there")
def test_a_compiled_tower_asks_as_the_packed_model(tmp_path: Path) -> None:
    trained = untrained(tmp_path / "data", ["model.blocks=1"])
    tower, scorer = tower_and_scorer(trained)
    inputs, _ = examples_of(tower, 8)
    write_aoti(traced(tower, inputs, LONGEST), tmp_path / "tower.pt2")
    compiled = torch._inductor.aoti_load_package(str(tmp_path / "tower.pt2"))
    given = padded(users(), LONGEST, LONGEST)
    [query] = compiled(*(torch.from_numpy(given[each.name]) for each in tower.inputs))
    np.testing.assert_allclose(scorer(query).numpy(), expected(trained, None, 2), atol=2e-6, rtol=2e-6)


def test_both_graphs_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "check_compiler", lambda: None)
    monkeypatch.setattr(graphs, "write_aoti", torch.export.save)  # which does not compile
    trained = untrained(tmp_path / "data", ["model.blocks=1"])
    about = export(trained, tmp_path / "out", "aoti")["graphs"]
    given = padded(users(), LONGEST, LONGEST)
    tower, scorer = (
        torch.export.load(tmp_path / "out" / about[name]["file"]).module() for name in ("tower", "scorer")
    )
    [query] = tower(*(torch.from_numpy(given[each["name"]]) for each in about["tower"]["inputs"]))
    right = expected(trained, None, 2)
    np.testing.assert_allclose(scorer(query).detach().numpy(), right, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("setting", ["loss.trends=learned", "loss.jumps=learned"])
def test_what_no_graph_holds_is_refused_with_the_reason(setting: str, tmp_path: Path) -> None:
    trained = untrained(tmp_path / "data", [setting])
    with pytest.raises(UserError, match=r"looked up in tables of the log") as raised:
        tower_and_scorer(trained)
    assert setting.partition("=")[0] in raised.value.what
    assert export(trained, tmp_path / "out")["scoring"]["not_in_the_vectors"]


def test_what_is_missing_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = untrained(tmp_path / "data")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"'onnx(script)?' is not installed") as raised:
        export(trained, tmp_path / "out", "onnx")
    assert raised.value.fix == 'pip install "lrm-kit[export]"'
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"C\+\+ compiler"):
        export(trained, tmp_path / "out", "aoti")
    with pytest.raises(UserError, match="no format 'gguf'"):
        export(trained, tmp_path / "out", "gguf")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_operations_that_onnx_lacks_are_torchs() -> None:
    torch.manual_seed(0)
    for starts in (BUCKET_STARTS, RECENCY_STARTS, (4,), (1, 1, 3)):
        bounds = torch.tensor(starts)
        values = torch.cat([bounds, bounds + 1, bounds - 1, torch.randint(0, 9, (6,))])[None].repeat(2, 1)
        for right in (False, True):
            assert _bucket(values, bounds, right=right).equal(torch.bucketize(values, bounds, right=right))
            assert _search(bounds, values, right=right).equal(torch.searchsorted(bounds, values, right=right))
    values = torch.randint(0, 5, (40,))
    for ours, theirs in zip(_sort(values, stable=True), values.sort(stable=True), strict=True):
        assert ours.equal(theirs)
