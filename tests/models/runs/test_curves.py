"""Pictures of a run."""

from __future__ import annotations

from pathlib import Path

from models.runs.curves import draw_curves

TRAIN = [{"kind": "train", "step": step, "epoch": 0, "loss": 9.0 - step} for step in range(3)]
VALID = [
    {"kind": "valid", "step": step, "epoch": 0, "hr@10": 0.1 * step, "split": "valid"} for step in range(3)
]


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_one_picture_of_the_loss_and_one_of_the_metrics(tmp_path: Path) -> None:
    drawn = draw_curves(TRAIN + VALID, ["hr@10", "hr@50"], tmp_path / "curves")
    assert [path.name for path in drawn] == ["loss.png", "metrics.png"]
    assert all(is_png(path) for path in drawn)


def test_the_picture_shows_the_numbers(tmp_path: Path) -> None:
    (first,) = draw_curves(TRAIN, ["hr@10"], tmp_path / "a")
    (same,) = draw_curves(TRAIN, ["hr@10"], tmp_path / "b")
    (other,) = draw_curves([{**TRAIN[0], "loss": 100.0}, *TRAIN[1:]], [], tmp_path / "c")
    assert first.read_bytes() == same.read_bytes() != other.read_bytes()


def test_what_has_no_records_is_not_drawn(tmp_path: Path) -> None:
    assert [path.name for path in draw_curves(VALID, ["hr@10"], tmp_path)] == ["metrics.png"]
    assert draw_curves([], ["hr@10"], tmp_path) == []
