"""Samples of events and pictures of data sets, against plain Python."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from behavior.summary.event_sample import sample_events, time_bins
from behavior.summary.facts import shard_facts
from behavior.summary.figure import save_png, shard_figure
from tests.behavior.shards.test_damage import enter
from tests.behavior.summary.log import BEGIN, BEHAVIORS, DAY, DOMAINS, LOG, prepared


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With times, domains and an event feature; not to be changed."""
    return prepared(tmp_path_factory.mktemp("summary") / "data")


@pytest.mark.parametrize(
    ("timed", "domains", "panels"),
    [
        (True, True, ["lengths", "popularity", "time", "behaviors", "domains", ""]),
        (True, False, ["lengths", "popularity", "spread", "time", "behaviors", ""]),
        (False, True, ["lengths", "popularity", "spread", "behaviors", "domains", ""]),
        (False, False, ["lengths", "popularity", "spread", "behaviors", ""]),
    ],
)
def test_what_there_is_to_show_has_a_panel(
    tmp_path: Path, timed: bool, domains: bool, panels: list[str]
) -> None:
    shards = open_shards(prepared(tmp_path / "data", timed=timed, domains=domains))
    figure = shard_figure(shards, sample_events(shards), shard_facts(shards))
    assert [axes.get_title().rpartition(" ")[2] for axes in figure.axes] == panels
    assert all(axes.get_xlabel() for axes in figure.axes[:-1])
    [facts] = figure.axes[-1].texts
    assert re.search(rf"^events +{len(LOG)}$", facts.get_text(), re.MULTILINE)
    assert ("2024-05-01" in facts.get_text()) == timed
    assert ("books, toys" in facts.get_text()) == domains


def test_the_sample_counts_what_plain_python_counts(shards: Path) -> None:
    sample = sample_events(open_shards(shards))
    assert (sample.files, sample.of, sample.note, sample.width) == (5, 5, "", "day")
    days = Counter((event.behavior, event.time // DAY) for event in LOG)
    for number, behavior in enumerate(BEHAVIORS):
        counted = sample.over_time[number].tolist()
        assert counted == [days[behavior, edge // DAY] for edge in sample.edges[:-1]]
    assert sample.domains.tolist() == [sum(event.domain == name for event in LOG) for name in DOMAINS]


def test_of_many_files_some_are_read_and_the_titles_say_so(shards: Path) -> None:
    folder = open_shards(shards)
    sample = sample_events(folder, max_files=2)
    read = [folder.read_sequences(folder.sequence_files()[place]) for place in (0, 4)]
    events = sum(len(row) for table in read for row in table.column("item").to_pylist())
    assert sample.over_time.sum() == sample.domains.sum() == events < len(LOG)
    titles = [axes.get_title() for axes in shard_figure(folder, sample, shard_facts(folder)).axes]
    assert titles.count("events over time (in 2 of 5 files)") == 1
    assert titles.count("domains (in 2 of 5 files)") == 1


instants = st.integers(0, 4_000_000_000)


@given(instants, instants, st.sampled_from([1, 1_000, 1_000_000]))
def test_bins_of_time_hold_both_ends_and_are_not_many(one: int, other: int, per_second: int) -> None:
    first, last = sorted((one * per_second, other * per_second))
    edges, _ = time_bins(first, last, per_second)
    assert edges[0] <= first < edges[1]
    assert edges[-2] <= last < edges[-1]
    assert len(np.unique(np.diff(edges))) == 1
    assert len(edges) <= 140


def test_more_behaviors_than_colors_and_names_that_look_like_formulas(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    names = ["$x_$", "喜欢", *(f"b{number}" for number in range(12))]
    lines = [f"u{n % 7},i{n % 11},{BEGIN + n * DAY},{names[n % len(names)]}\n" for n in range(700)]
    (folder / "log.csv").write_text("user,item,time,behavior\n" + "".join(lines), encoding="utf-8")
    spec = {
        "name": "many",
        "events": {
            "files": "log.csv",
            "columns": {"user": "user", "item": "item", "timestamp": "time"},
            "behavior": {"column": "behavior"},
        },
        "timestamp_unit": "s",
        "behaviors": names,
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    from behavior.spec.dataset_spec import load_spec
    from pipelines.prepare import prepare

    prepare(*load_spec(folder / "spec.yaml"), folder / "out")
    shards = open_shards(folder / "out")
    figure = shard_figure(shards, sample_events(shards), shard_facts(shards))
    save_png(figure, tmp_path / "many.png")
    [axes] = [axes for axes in figure.axes if axes.get_title() == "behaviors"]
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "6 others"
    assert axes.texts[-1].get_text() == "300 (42.9%)"
    assert (tmp_path / "many.png").stat().st_size > 30_000


def test_drawing_leaves_no_global_state() -> None:
    code = "import sys, behavior.summary.figure; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("first", "last", "what"),
    [
        (BEGIN - 9 * DAY, BEGIN - 8 * DAY, "times outside those of the statistics"),
        (-(2**63), 2**63 - 1, "they span more than 10,000 years"),
    ],
)
def test_statistics_of_other_times_than_the_sequences(
    first: int, last: int, what: str, tmp_path: Path
) -> None:
    folder = prepared(tmp_path / "data")
    record = json.loads((folder / "stats.json").read_text())
    record["time"] |= {"first": first, "last": last}
    (folder / "stats.json").write_text(json.dumps(record))
    enter(folder, "stats.json")
    with pytest.raises(UserError, match=what):
        sample_events(open_shards(folder))
