"""The demo's tables and report, with floors in place of trained models."""

from __future__ import annotations

import html
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import behavior
from behavior.shards.folder import open_shards
from behavior.shards.manifest import Manifest
from behavior.synthetic import SyntheticConfig, generate
from models import load_config, load_model, train
from models.experiments import demo as module
from models.experiments.demo import LABELS, SERVED, Demo, below_lines, repeat_rows, table_rows
from models.experiments.demo_people import people_tables
from models.experiments.demo_report import write_report


def prepare(spec: Path, out: Path) -> Manifest:
    behavior.prepare(spec, out)
    return open_shards(out).manifest


def test_floors_stand_in_the_tables_and_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(SyntheticConfig, users=80, items=40, interests=8, personas=3, mean_events=12.0)
    monkeypatch.setattr(module, "SyntheticConfig", small)

    def trained(self: Demo, kind: str) -> dict[str, Any]:
        floor = {"hstu": "frequency", "sasrec": "popularity"}[kind]
        return module.evaluate_baselines([floor], self.shards)[0][floor]

    people = [
        {
            "user": 100_007,
            "lately": [{"behavior": "view", "title": "Old <lamp>"}, {"behavior": "buy", "title": "New lamp"}],
            "recommended": [{"rank": 1, "title": "A shade", "category": None, "item": "item-00001"}],
        }
    ]
    monkeypatch.setattr(Demo, "_train", trained)
    monkeypatch.setattr(Demo, "_serve", lambda self, log: people)
    record = Demo(tmp_path / "demo", 0, prepare).run()
    results = record["results"]
    assert set(results) == set(LABELS)
    assert [row[0] for row in table_rows(record)] == list(LABELS.values())
    assert set(record["share_of_history_oracle"]) == set(LABELS) - {"history", "latent"}
    for label, repeat, explore in repeat_rows(record):
        name = next(name for name in LABELS if LABELS[name] == label)
        parts = results[name]["repeats"]
        assert (repeat, explore) == (parts["repeat"]["ndcg@10"], parts["explore"]["ndcg@10"])
    below = {
        name
        for name in LABELS
        if "counts" in results[name]
        and any(results[name][metric] > results["sasrec"][metric] for metric in ("ndcg@10", "hr@10"))
    } - {"hstu", "sasrec"}
    assert {each["floor"] for each in record["below_floors"]["sasrec"]} == below
    lines = below_lines(record)
    assert lines[-1].startswith("SASRec is below the floor: ")
    assert all(LABELS[name] in lines[-1] for name in below)
    page = Path(record["report"]).read_text(encoding="utf-8")
    assert all(label in page for label in LABELS.values())
    assert "NDCG@10 of repeat targets" in page
    assert all(f"<strong>{html.escape(line)}.</strong>" in page for line in lines)
    assert "No floor is above a model" not in page
    assert people_tables(record["people"]) == [
        ("user 100007", [("buy: New lamp", "1. A shade"), ("view: Old <lamp>", "")])
    ]
    assert "<h3>user 100007</h3>" in page
    assert "<td>view: Old &lt;lamp&gt;</td>" in page
    assert "<td>1. A shade</td>" in page


def test_the_report_says_where_no_floor_is_above_a_model(tmp_path: Path) -> None:
    log = generate(SyntheticConfig(users=40, items=40, interests=8, personas=3, mean_events=12.0))
    manifest = prepare(log.write(tmp_path / "raw"), tmp_path / "shards")
    record = {"seconds": {}, "below_floors": {"hstu": [], "sasrec": []}}
    page = write_report(tmp_path, record, ([], [], []), manifest, {}, below_lines(record)).read_text()
    assert "<strong>No floor is above a model, by NDCG@10 or HR@10.</strong>" in page


def test_people_are_shown_their_last_events_and_what_is_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the refitted run of the chosen one, with titles of the raw files; the log's rows tell the rest."""
    log = generate(SyntheticConfig(users=40, items=40, interests=8, personas=3, mean_events=12.0))
    demo = Demo(tmp_path, 0, prepare)
    prepare(log.write(demo.raw), demo.shards)
    config = load_config("demo/hstu", ["model.dim=8", "model.heads=1", "train.epochs=1", "train.device=cpu"])
    train(config, demo.shards, tmp_path / "runs" / SERVED)
    people = demo._serve(log)
    title = dict(zip(log.items["item"].to_pylist(), log.items["title"].to_pylist(), strict=True))
    events = log.events.to_pylist()
    assert [person["user"] for person in people] == log.users["user"].to_pylist()[:3]
    for person in people:
        own = [event for event in events if event["user"] == person["user"]]
        shown = [{"behavior": event["behavior"], "title": title[event["item"]]} for event in own]
        assert person["lately"] == shown[-5:]
    served = load_model(tmp_path / "runs" / "served", device="cpu")
    assert served.config.loader.part == "all"
    at = max(event["timestamp"] for event in events)
    expected = served.recommend([person["user"] for person in people], k=5, at=at).table().to_pylist()
    found = [(person["user"], row) for person in people for row in person["recommended"]]
    assert {(user, row["rank"], row["item"], row["title"]) for user, row in found} == {
        (row["user"], row["rank"], row["item"], title[row["item"]]) for row in expected
    }
    assert len(found) == 15
