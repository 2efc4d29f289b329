"""The Python of docs/loader.md runs, and gives what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from behavior.shards.folder import open_shards
from models.data import CORE, Columns
from models.data.loading import ShardSource, TrainLoader
from tests.models.data.feature_world import RICH
from tests.models.shards import USERS, write_shards

PATH = Path(__file__).parents[3] / "docs" / "loader.md"


def test_the_examples_of_columns_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = write_shards(tmp_path / "data" / "shop", USERS, RICH)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "loader"}
    for block in re.findall(r"```python\n(.*?)```", PATH.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, "loader.md", "exec", dont_inherit=True), names)
    assert capsys.readouterr().out == "torch.float32 torch.int32\n"
    source = ShardSource(open_shards(shop), columns=Columns.merged(CORE, [names["hour"]]))
    (batch,) = TrainLoader(source, max_length=9)
    assert batch["target_hour"].tolist() == [time // 3600 % 24 for time in batch.query_time.tolist()]
