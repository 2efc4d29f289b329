"""What is called like something ready, and is a file or a folder too."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from behavior.errors import UserError
from behavior.named import is_ready
from behavior.spec.dataset_spec import load_spec
from models.experiments import load_table
from models.recipes import load_recipe

READY = ("ml-1m", "ml-1m/hstu", "taobao")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_neither_a_folder_nor_a_file_shadows_a_ready_name(here: Path) -> None:
    (here / "ml-1m" / "hstu").mkdir(parents=True)
    (here / "taobao").write_text("{}")
    for name in READY:
        assert is_ready(name, READY, what="spec")
        assert not is_ready(f"./{name}.yaml", READY, what="spec")
    assert not is_ready("./taobao", READY, what="spec")
    assert not is_ready(here / "taobao", READY, what="spec")


def test_what_is_neither_is_said_with_the_nearest_name(here: Path) -> None:
    (here / "ml-1").mkdir()
    for name, what in (("ml-1", "is a folder"), ("tabao", "is neither a file nor a ready spec")):
        with pytest.raises(UserError, match=what) as caught:
            is_ready(name, READY, what="spec", where="SPEC")
        assert "did you mean '" in (caught.value.fix or "")
        assert caught.value.where == "SPEC"


def test_specs_recipes_and_tables_beside_folders_of_their_names(here: Path) -> None:
    expected = load_recipe("ml-1m/hstu"), load_table("ml-1m/bias")
    for name in ("ml-1m/hstu", "ml-1m/bias", "default", "demo/hstu"):
        (here / name).mkdir(parents=True)
    assert load_spec("ml-1m", input_folder="ml-1m")[0].name == "ml-1m"
    assert (load_recipe("ml-1m/hstu"), load_table("ml-1m/bias")) == expected
    assert load_recipe("default")


def test_a_file_without_an_ending_is_read(here: Path) -> None:
    (here / "mine").write_text("model: {blocks: 7}")
    assert load_recipe("mine") == {"model": {"blocks": 7}}
    (here / "lines").write_text(yaml.safe_dump({"rows": {"a": {}}}))
    assert list(load_table("lines").lines()) == ["a"]
    (here / "ml-1m").write_text("not a spec")
    with pytest.raises(UserError, match="needs the folder") as caught:
        load_spec("ml-1m")
    assert "./ml-1m" in (caught.value.fix or "")
