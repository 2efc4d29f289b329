"""`lrm data`: what is listed, what is fetched, and what is said where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from behavior import datasets
from behavior.datasets import fetch as fetch_module
from behavior.datasets.sources import Check, Source, SourceFile
from tests.behavior.datasets.test_fetch import CONTENT, MD5, FileServer, server
from tests.cli.conftest import Lrm

__all__ = ["server"]


def one_file(server: FileServer, monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    """The test server's file as the source of every ready spec."""
    source = Source(files=[SourceFile(url=f"{server.address}/data.bin")], checks={"data.bin": check})
    monkeypatch.setattr(fetch_module, "source_of", lambda name: source)


def test_help_has_an_example(lrm: Lrm) -> None:
    for command in ("list", "fetch"):
        found = lrm("data", command, "--help")
        assert found.code == 0
        assert f"Example:  lrm data {command}" in found.out
    assert "data" in lrm("--help").out
    assert "fetch" in lrm("data", "--help").out


def test_usage_errors_exit_with_2(lrm: Lrm) -> None:
    assert lrm("data", "nonsense").code == 2
    assert lrm("data", "fetch", "ml-1m").code == 2


def test_the_list_names_every_ready_spec(lrm: Lrm) -> None:
    found = lrm("data", "list")
    assert found.code == 0
    for name in datasets.names():
        assert name in found.out
    for text in ("1,000,209", "5.9 MB", "47.4 MB to 9.9 GB", "by hand", "29 variants", "no redistribution"):
        assert text in found.out


def test_the_list_for_machines(lrm: Lrm) -> None:
    records = {record["name"]: record for record in json.loads(lrm("data", "list", "--json").out)}
    assert sorted(records) == datasets.names()
    assert records["ml-1m"] == {
        "name": "ml-1m",
        "description": "MovieLens 1M, one million ratings of 3,706 movies by 6,040 users",
        "events": 1_000_209,
        "bytes": 5_917_549,
        "license": "research use, no redistribution",
        "homepage": "https://grouplens.org/datasets/movielens/1m/",
        "fetchable": True,
        "by_hand": None,
        "variants": [],
        "files": ["ratings.dat", "movies.dat", "users.dat"],
    }
    assert records["kuairand"]["bytes"]["Pure"] == 47_432_272
    assert not records["tmall"]["fetchable"]


def test_fetching_shows_the_license_first_and_what_was_checked(
    lrm: Lrm, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_file(server, monkeypatch, Check(md5=MD5))
    found = lrm("data", "fetch", "ml-1m", "--out", tmp_path / "raw")
    assert found.code == 0, found.err
    assert found.err.startswith("ml-1m: license: research use, no redistribution; see https://grouplens.org/")
    assert f"{tmp_path}/raw/data.bin: 3,072,000 bytes, MD5 verified\n" in found.out
    assert f"next: lrm prepare ml-1m --input {tmp_path}/raw --out DIR" in found.out
    assert (tmp_path / "raw" / "data.bin").read_bytes() == CONTENT
    again = json.loads(lrm("data", "fetch", "ml-1m", "--out", tmp_path / "raw", "--json").out)
    assert again == {
        "out": f"{tmp_path}/raw",
        "name": "ml-1m",
        "files": [
            {
                "path": f"{tmp_path}/raw/data.bin",
                "bytes": 3_072_000,
                "verified": "md5",
                "was_there": True,
                "members": [],
            }
        ],
    }


def test_errors_say_what_where_and_what_to_do(
    lrm: Lrm, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = lrm("data", "fetch", "yelp", "--out", tmp_path)
    assert by_hand.code == 1
    assert "has to be downloaded by hand: accept the terms at Yelp" in by_hand.err
    assert "where: https://business.yelp.com/" in by_hand.err
    assert "to do: put yelp_academic_dataset_review.json, " in by_hand.err
    unknown = lrm("data", "fetch", "ml-1", "--out", tmp_path)
    assert unknown.code == 1
    assert "where: NAME" in unknown.err
    assert "did you mean 'ml-1m'" in unknown.err
    one_file(server, monkeypatch, Check(md5="0" * 32))
    wrong = lrm("data", "fetch", "ml-1m", "--out", tmp_path)
    assert wrong.code == 1
    assert "wrong checksum" in wrong.err
    assert f"where: {server.address}/data.bin" in wrong.err
    assert "Traceback" not in wrong.err + by_hand.err
    assert not wrong.out
    assert list(tmp_path.iterdir()) == []
