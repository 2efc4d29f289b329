"""What may be done with the folder of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.shards.lock import exclusive
from behavior.shards.storage import Folder
from models.runs.run_folder import RunFolder, hold_run, open_run, settings_to_resume


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with files of every kind, as far as claiming one looks at them."""
    made = RunFolder(tmp_path / "run")
    made.write({"train": {"epochs": 3}}, Folder("data"), {"digest": "abc"})
    for path in (made.last, made.best, made.metrics, made.tensorboard / "events", made.curves / "loss.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"something")
    return made.path


def test_a_run_is_resumed_by_name_or_by_chance_and_never_begun_anew(run: Path) -> None:
    for resume in (True, "auto"):
        with hold_run(run, resume=resume) as held:  # type: ignore[arg-type]
            assert held == open_run(run)
    with pytest.raises(UserError, match="already holds a training run"), hold_run(run, resume=False):
        pass
    assert settings_to_resume(run).read_text() == "train:\n  epochs: 3\n"


@pytest.mark.parametrize("there", [False, True])
def test_where_there_is_no_run_none_is_resumed(there: bool, tmp_path: Path) -> None:
    new = tmp_path / "above" / "run"
    if there:
        new.mkdir(parents=True)
    with pytest.raises(UserError, match="no training run in") as caught, hold_run(new, resume=True):
        pass
    assert "leave --resume out" in str(caught.value)
    assert new.exists() == there
    assert new.parent.exists() == there
    with pytest.raises(UserError, match="no training run in"):
        settings_to_resume(new)
    with hold_run(new, resume="auto") as run:
        assert run.path == new
    assert new.exists() == there


@pytest.mark.parametrize("lost", ["best", "metrics"])
def test_a_run_without_its_last_checkpoint_is_not_begun_anew(run: Path, lost: str) -> None:
    """Either of them shows that the run had begun; its first checkpoint is older than both."""
    RunFolder(run).last.unlink()
    getattr(RunFolder(run), lost).unlink()
    before = contents(run)
    with pytest.raises(UserError, match=r"checkpoints/last\.safetensors is missing") as caught:
        hold_run(run, resume=True).__enter__()
    left = "metrics.jsonl" if lost == "best" else "checkpoints/best.safetensors"
    assert f"the run has {left}" in caught.value.what
    assert contents(run) == before


def test_a_run_killed_before_its_first_checkpoint_begins(run: Path) -> None:
    made = RunFolder(run)
    made.last.unlink()
    made.best.unlink()
    made.metrics.write_bytes(b"")
    with hold_run(run, resume=True):
        pass


@pytest.mark.parametrize(
    ("names", "ours"),
    [
        ([], True),
        (["run.json.tmp"], True),
        (["config.yaml.tmp", "run.json.tmp"], True),
        (["config.yaml", "run.json.tmp"], True),
        (["config.yaml"], False),
        (["notes.txt"], False),
        (["checkpoints/last.safetensors"], False),
        (["metrics.jsonl", "run.json.tmp"], False),
    ],
)
def test_only_what_a_run_killed_at_once_leaves_is_written_over(
    names: list[str], ours: bool, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    if ours:
        with hold_run(tmp_path, resume=False):
            pass
        return
    for resume in (False, True, "auto"):
        with pytest.raises(UserError, match=r"not a training run: run\.json is missing"):
            hold_run(tmp_path, resume=resume).__enter__()  # type: ignore[arg-type]
    assert contents(tmp_path) == dict.fromkeys(names, b"mine")


def test_the_settings_are_whole_before_the_mark_and_killed_between_they_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every rename: what is left is a run, or may be begun anew."""
    for kept in range(3):
        run, left = RunFolder(tmp_path / str(kept)), [kept]
        with monkeypatch.context() as patch:
            rename = Path.replace

            def replace(self: Path, target: Path, left: list[int] = left, rename: object = rename) -> object:
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                return rename(self, target)  # type: ignore[operator]

            patch.setattr(Path, "replace", replace)
            if kept < 2:
                with pytest.raises(KeyboardInterrupt):
                    run.write({}, Folder("data"), {})
            else:
                run.write({}, Folder("data"), {})
        with hold_run(run.path, resume="auto"):
            assert run.marker.exists() == (kept == 2)
            assert run.config_file.exists() == (kept >= 1)


def test_a_run_is_held_by_one_job(run: Path) -> None:
    before = contents(run)
    with exclusive(Folder(str(run))):
        for resume in (False, True):
            with pytest.raises(UserError, match="another job is writing"):
                hold_run(run, resume=resume).__enter__()
    with hold_run(run, resume=True), pytest.raises(UserError, match="another job is writing"):
        hold_run(run, resume=True).__enter__()
    assert contents(run) == before


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("checkpoints", "a link, not a folder"),
        ("tensorboard", "a link, not a folder"),
        ("curves", "a link, not a folder"),
        ("metrics.jsonl", "a link, not a file"),
    ],
)
def test_what_is_written_through_a_link_is_refused_by_name(run: Path, name: str, found: str) -> None:
    elsewhere = run.parent / "elsewhere"
    (run / name).rename(elsewhere)
    (run / name).symlink_to(elsewhere)
    with pytest.raises(UserError, match=f"'{name}' in the run is {found}"):
        hold_run(run, resume=True).__enter__()


def test_a_checkpoint_that_is_a_link_to_one_is_replaced_and_so_allowed(run: Path) -> None:
    elsewhere = run.parent / "elsewhere"
    RunFolder(run).best.rename(elsewhere)
    RunFolder(run).best.symlink_to(elsewhere)
    with hold_run(run, resume=True):
        pass


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "metrics.jsonl", "checkpoints/last.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused(run: Path, name: str, kind: str) -> None:
    """A pipe would be waited for."""
    (run / name).unlink()
    os.mkfifo(run / name) if kind == "pipe" else (run / name).mkdir()
    with pytest.raises(UserError, match=r"cannot read: it is a .*, not a file") as caught:
        hold_run(run, resume=True).__enter__()
    assert caught.value.where == str(run / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "run.json is damaged: it is no JSON"),
        (b"\xff", "run.json is damaged: it is no JSON"),
        (b"[" * 100_000, "run.json is damaged: it is no JSON"),
        (b"[]", "not one of lrm-kit"),
        ({"format": "other"}, "not one of lrm-kit"),
        ({"format_version": 99}, "newer format: 99"),
        ({"format_version": "1"}, "damaged: format_version"),
        ({"format_version": True}, "damaged: format_version"),
        ({"data": None}, "damaged: data"),
        ({"dataset": [1]}, "damaged: dataset"),
    ],
)
def test_a_damaged_mark_is_told(run: Path, content: bytes | dict[str, object], message: str) -> None:
    marker = RunFolder(run).marker
    if isinstance(content, dict):
        content = json.dumps(json.loads(marker.read_text()) | content).encode()
    marker.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        open_run(run)
    assert caught.value.where == str(marker)
    with pytest.raises(UserError, match=message):
        hold_run(run, resume=True).__enter__()


def test_what_a_run_does_not_say_and_what_it_says_beyond(run: Path) -> None:
    marker = RunFolder(run).marker
    about = json.loads(marker.read_text())
    del about["dataset"]
    marker.write_text(json.dumps(about | {"later": 1}))
    assert open_run(run).data == str(Path("data").absolute())


def test_settings_that_are_gone_are_not_replaced_by_others(run: Path) -> None:
    RunFolder(run).config_file.unlink()
    with pytest.raises(UserError, match=r"config\.yaml is missing"):
        settings_to_resume(run)


def test_a_file_that_may_not_be_read_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(UserError, match="cannot read: Permission denied") as caught:
        open_run(run)
    assert caught.value.fix == "check the permissions"
