"""The report: everything of a folder in one page, which a real browser shows without a fault."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behavior.errors import UserError
from models.experiments.results import METRICS, RunRecord, append_record
from models.scaling.grid import ScaleGrid
from models.scaling.points import read_points
from models.scaling.report.figures import frontier_of, late_starts
from models.scaling.report.write import tables_beside, write_report
from models.scaling.store import Store
from tests.models.scaling.planted_grid import NASTY, write_grid

MARK = {"format": "lrm-kit run", "format_version": 1, "data": "data"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of such a grid."""
    folder = tmp_path_factory.mktemp("report")
    write_grid(folder / "grid")
    write_report(folder / "grid", folder / "page.html", replicates=8)
    return folder / "page.html"


def test_sizes_best_at_the_end_of_the_rates_are_told(made: Path) -> None:
    """Of the planted grid all are: with .001 of .001 and .003."""
    text = made.read_text()
    assert "a better one may lie beyond" in text
    assert "HSTU 2 x 16 (0.001), HSTU 2 x 32 (0.001)" in text


def test_late_starts_are_those_above_the_smallest_model_at_first() -> None:
    def run(name: str, width: int, *losses: float, chosen: bool = True) -> list[dict[str, Any]]:
        about = {"run": name, "dataset": "d", "backbone": "A", "blocks": 2, "width": width}
        about |= {"rate_chosen": chosen, "learning_rate": 0.01, "parameters_backbone": width**2}
        return [{**about, "step": step, "loss": loss} for step, loss in enumerate(losses, 1)]

    points = [*run("a", 8, 7.0, 6.0), *run("b", 16, 6.5, 5.0), *run("c", 32, 7.2, 4.0)]
    points += [*run("d", 64, 7.3, 4.0, chosen=False), *run("e", 64, math.nan)]
    assert late_starts(points) == "A 2 x 32 (0.01)"
    assert late_starts([]) == ""


def test_rates_that_the_last_grid_does_not_name_are_judged_by_what_was_run(tmp_path: Path) -> None:
    """A folder that several grids share: each size has the best rate that was tried, or the last grid's."""
    grid, store = write_grid(tmp_path), Store(tmp_path)
    other = ScaleGrid(**{**grid.model_dump(), "blocks": [2], "learning_rate": {"rates": [0.01]}})
    store.begin_call(other, "data")
    chosen = [point for point in read_points(tmp_path) if point["rate_chosen"] and point["final"]]
    assert len(chosen) == len(grid.sizes())
    assert {point["learning_rate"] for point in chosen} == {0.001}
    other = ScaleGrid(**{**grid.model_dump(), "blocks": [2], "learning_rate": {"rates": [0.003]}})
    store.begin_call(other, "data")
    chosen = [point for point in read_points(tmp_path) if point["rate_chosen"] and point["final"]]
    assert {(p["blocks"], p["learning_rate"]) for p in chosen} == {(2, 0.003), (4, 0.001), (8, 0.001)}


class Seen(HTMLParser):
    """What a page has, and what it refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.refers: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = {name: value or "" for name, value in attrs}
        self.refers += [found[name] for name in ("src", "href", "xlink:href", "data") if name in found]
        self.ids += [found["id"]] if "id" in found else []


def test_a_page_needs_nothing_from_elsewhere(made: Path) -> None:
    text = made.read_text()
    page = Seen()
    page.feed(text)
    assert "script" not in page.tags
    assert NASTY not in text
    assert all(target.startswith(("#", "data:")) for target in page.refers)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert {target[1:] for target in page.refers if target.startswith("#")} <= set(page.ids)
    assert page.tags.count("svg") >= 7
    for word in ("planted", "a card", "no memory", "torch", "widths:", "Predicted against measured"):
        assert word in text


def test_tables_are_what_was_measured(made: Path) -> None:
    tables = tables_beside(made)
    rows = {path.stem: list(csv.DictReader(path.open(newline=""))) for path in tables.glob("*.csv")}
    assert {"best", "runs", "points", "laws", "laws-goodness", "ablation-1", "failures"} <= set(rows)
    points = read_points(made.parent / "grid")
    assert len(rows["points"]) == len(points) == 24 * 5
    assert len(rows["runs"]) == 24
    assert len(rows["best"]) == 2
    for row in rows["best"]:
        own = [p for p in points if p["backbone"] == row["backbone"] and p["final"]]
        best = max(own, key=lambda point: point["ndcg@10"])
        assert float(row["ndcg@10"]) == best["ndcg@10"]
        assert (int(row["blocks"]), int(row["width"])) == (best["blocks"], best["width"]) == (8, 32)
        assert float(row["test ndcg@10"]) == pytest.approx(0.9 * best["ndcg@10"])
    chosen = [row for row in rows["points"] if row["rate_chosen"] == "1"]
    assert {row["learning_rate"] for row in chosen} == {"0.001"}  # the other one is worse everywhere
    held_out = [float(row["held-out R2"]) for row in rows["laws-goodness"] if "tokens" in row["law"]]
    assert min(held_out) > 0.8


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium here")
def test_a_real_browser_shows_every_plot_and_fetches_nothing(made: Path, tmp_path: Path) -> None:
    """A script that is added for the test looks at the page as the browser has laid it out."""
    look = """
    <script>
    var faults = [];
    window.onerror = function (what) { faults.push(String(what)); };
    window.addEventListener("load", function () {
      var plots = Array.from(document.querySelectorAll("svg.plot")).map(function (plot) {
        var box = plot.getBoundingClientRect(), marks = 0;
        plot.querySelectorAll("path, use, text").forEach(function (mark) {
          var own = mark.getBoundingClientRect();
          var inside = own.right <= box.right + 1 && own.bottom <= box.bottom + 1;
          if (own.width + own.height > 0 && inside) marks++;
        });
        return {width: box.width, height: box.height, marks: marks, right: box.right};
      });
      var fetched = performance.getEntriesByType("resource").map(function (entry) { return entry.name; });
      var found = {plots: plots, faults: faults, fetched: fetched, width: window.innerWidth};
      document.body.setAttribute("data-found", JSON.stringify(found));
    });
    </script></head>"""
    page = tmp_path / "page.html"
    page.write_text(made.read_text().replace("</head>", look, 1))
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,2000", "--dump-dom", page.as_uri()),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    match = re.search(r'data-found="([^"]*)"', shown)
    assert match is not None
    found = json.loads(match.group(1).replace("&quot;", '"'))
    assert found["faults"] == []
    assert found["fetched"] == []
    assert len(found["plots"]) == made.read_text().count('class="plot"') >= 7
    for plot in found["plots"]:
        assert plot["width"] > 200
        assert plot["height"] > 100
        assert plot["marks"] > 10
        assert plot["right"] <= found["width"]


def test_a_folder_of_plain_runs_and_one_of_nothing(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made.parent / "grid" / "runs", tmp_path / "runs")
    write_report(tmp_path / "runs", tmp_path / "page.html", replicates=4)
    assert "24 finished runs" in (tmp_path / "page.html").read_text()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no finished run"):
        write_report(tmp_path / "empty", tmp_path / "other.html")
    with pytest.raises(UserError, match="two bootstrap replicates or more, not 1"):
        write_report(tmp_path / "runs", tmp_path / "other.html", replicates=1)


def test_runs_that_are_gone_are_told(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made.parent / "grid", tmp_path / "grid")
    first, second, *_ = sorted((tmp_path / "grid" / "runs").iterdir())
    shutil.rmtree(first)
    (second / "metrics.jsonl").unlink()
    write_report(tmp_path / "grid", tmp_path / "page.html", replicates=4)
    page = (tmp_path / "page.html").read_text()
    assert f"Left out: 2 finished runs without summary.json or metrics.jsonl in runs/ ({first.name}, " in page
    assert "22 finished runs with" in page
    assert "Left out" not in made.read_text()
    shutil.rmtree(tmp_path / "grid" / "runs")
    for read in (read_points, lambda folder: write_report(folder, tmp_path / "other.html")):
        with pytest.raises(UserError, match="the folder has 24 results, and no run that points") as caught:
            read(tmp_path / "grid")
        assert caught.value.where == str(tmp_path / "grid" / "runs")
    assert not (tmp_path / "other.html").exists()


def test_finished_runs_without_results_are_shown(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made.parent / "grid", tmp_path / "grid")
    shutil.rmtree(tmp_path / "grid" / "results")
    (tmp_path / "grid" / "results").mkdir()
    write_report(tmp_path / "grid", tmp_path / "page.html", replicates=4)
    page = (tmp_path / "page.html").read_text()
    assert "24 finished runs with" in page
    assert "There are no results in results/" in page
    assert "There are no results" not in made.read_text()


@pytest.mark.parametrize("of_a_grid", [True, False])
def test_versions_of_a_data_set_are_told_apart(of_a_grid: bool, made: Path, tmp_path: Path) -> None:
    """Otherwise one law would be fitted to both."""
    shutil.copytree(made.parent / "grid" / ("" if of_a_grid else "runs"), tmp_path / "copy")
    runs = sorted(path.parent for path in (tmp_path / "copy").rglob("summary.json"))
    for run in runs:
        (run / "run.json").write_text(json.dumps({**MARK, "dataset": {"digest": "a" * 64}}))
    assert {point["dataset"] for point in read_points(tmp_path / "copy")} == {"planted"}
    for number, run in enumerate(runs):
        if number % 2:
            (run / "run.json").write_text(json.dumps({**MARK, "dataset": {"digest": "b" * 64}}))
    found = {point["run"]: point["dataset"] for point in read_points(tmp_path / "copy")}
    assert list(found.values()) == ["planted (aaaaaaaa)", "planted (bbbbbbbb)"] * (len(runs) // 2)


def test_an_ablation_on_two_data_sets_is_two_tables(tmp_path: Path) -> None:
    about: dict[str, Any] = {"table": "t", "line": "a", "recipe": "r", "settings": {}, "time": "known"}
    about |= {
        "seed": 0,
        "test": {},
        "best_epoch": 1,
        "epochs": 1,
        "steps": 1,
        "parameters": 1,
        "minutes": 1.0,
    }
    about |= {"device": "cpu", "version": "1"}
    for data, value in (("one", 0.2), ("two", 0.4)):
        valid = dict.fromkeys(METRICS, value)
        append_record(tmp_path / "results.csv", RunRecord(digest=data, data=data, valid=valid, **about))
    write_report(tmp_path, tmp_path / "page.html")
    rows = [
        next(csv.DictReader((tables_beside(tmp_path / "page.html") / f"ablation-{n}.csv").open(newline="")))
        for n in (1, 2)
    ]
    assert [float(row[METRICS[0]]) for row in rows] == [0.2, 0.4]
    assert "t, one, valid split" in (tmp_path / "page.html").read_text()


def test_a_grid_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    Store(tmp_path / "grid").begin_call(ScaleGrid(title="new", backbones={"A": {}}), "data")
    write_report(tmp_path / "grid", tmp_path / "page.html")
    assert "The grid has 1 size;" in (tmp_path / "page.html").read_text()


def test_the_frontier_is_better_than_all_that_is_cheaper() -> None:
    draw = np.random.default_rng(1)
    pairs = [(float(c), float(v)) for c, v in draw.integers(0, 20, (200, 2))]
    for lower in (True, False):
        sign = 1 if lower else -1
        best = [
            (c, v)
            for c, v in set(pairs)
            if all(sign * v < sign * w for d, w in pairs if d < c)
            and sign * v <= min(sign * w for d, w in pairs if d == c)
        ]
        assert frontier_of(pairs, lower=lower) == sorted(best)


def test_damage_is_told_with_its_file(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made.parent / "grid", tmp_path / "grid")
    summary = next((tmp_path / "grid").rglob("summary.json"))
    summary.write_text("{")
    with pytest.raises(UserError, match="the summary of a run is damaged") as caught:
        write_report(tmp_path / "grid", tmp_path / "page.html")
    assert caught.value.where == str(summary)
