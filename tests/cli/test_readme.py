"""The README's commands and its Python, in order, in an empty folder, without a network.

The data are generated here in the form in which they are published; trainings are made small.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from behavior.datasets import fetch as fetch_module
from behavior.datasets.sources import Check, source_of
from tests.behavior.datasets.test_fetch import FileServer, server
from tests.cli.conftest import Lrm
from tests.test_docs import README, commands

__all__ = ["server"]

SMALL = ["model.dim=8", "model.max_length=8", "loss.negatives.count=4", "train.epochs=1"]


def movielens() -> bytes:
    """ml-1m.zip with fewer users: a folder of three files separated by ::, titles in Latin-1."""
    users, movies = range(1, 25), range(1, 16)
    files = {
        "ratings.dat": [
            f"{u}::{(u * m) % 15 + 1}::{m % 5 + 1}::{978300000 + u * m}" for u in users for m in range(1, 12)
        ],
        "movies.dat": [f"{m}::Misérables {m} (1995)::Drama|Comedy" for m in movies],
        "users.dat": [f"{u}::{'FM'[u % 2]}::{25 + u % 2}::{u % 20}::{48000 + u}" for u in users],
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ml-1m/README", "not unpacked")
        for name, lines in files.items():
            archive.writestr(f"ml-1m/{name}", "\n".join(lines).encode("latin-1") + b"\n")
    return packed.getvalue()


def publish(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve ml-1m.zip on this machine, as it is published but for address and checksum."""
    [file] = source_of("ml-1m").files
    content = movielens()
    server.files[f"/{file.name}"] = content
    here = file.model_copy(update={"url": f"{server.address}/{file.name}"})
    check = Check(bytes=len(content), md5=hashlib.md5(content).hexdigest())
    source = source_of("ml-1m").model_copy(update={"files": [here], "checks": {file.name: check}})
    monkeypatch.setattr(fetch_module, "source_of", lambda name: {"ml-1m": source}[name])


def write_shop() -> None:
    """Logs of a shop in the columns of the README's spec, its products, and the spec."""
    header = "customer,product,time,action,device,price\n"

    def rows(days: range) -> str:
        return "".join(
            f"c{c},p{(c * day) % 9},{1_700_000_000 + day * 86_400 + c},"
            f"{'view' if day % 3 else 'buy'},{'ab'[c % 2]},{day}.5\n"
            for day in days
            for c in range(20)
        )

    Path("logs").mkdir()
    for path in ("events.csv.gz", "logs/first.csv.gz"):
        Path(path).write_bytes(gzip.compress((header + rows(range(10))).encode()))
    Path("logs/today-1.csv").write_text(header + rows(range(10, 12)))
    products = "".join(f"p{p},b{p % 2},new|cheap,{p}.25\n" for p in range(9))
    Path("products.csv").write_text("product,brand,tags,price\n" + products)
    [spec] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    Path("shop.yaml").write_text(spec)


def test_the_readme_in_order_in_an_empty_folder(
    lrm: Lrm, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, monkeypatch)
    monkeypatch.chdir(tmp_path)
    shown = commands(README)
    assert ["lrm", "prepare", "ml-1m", "--input", "ml-1m", "--out", "data/ml-1m"] in shown
    for words in shown:
        if "events.csv.gz" in words:
            write_shop()
        if "three.txt" in words:
            Path("three.txt").write_text("1\n2\n3\n")
        anew = words[1] == "train" and "--refit" not in words
        smaller = [word for setting in SMALL for word in ("--set", setting)] if anew else []
        found = lrm(*words[1:], *smaller)
        assert found.code == 0, f"{' '.join(words)}\n{found.err}"
        if "three.txt" in words:
            tables = found.out.split("user ")[1:]
            assert [table[0] for table in tables] == ["1", "2", "3"]
            assert all("(1995)" in table and "Misérables" in table for table in tables)
    for made in (
        "ml-1m/movies.dat",
        "runs/hstu/run.json",
        "recommendations.parquet",
        "mine.png",
        "data/mine/manifest.json",
        "runs/shop/run.json",
    ):
        assert Path(made).is_file(), made


def test_the_readme_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_shop()
    [block] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert '["train.epochs=20"]' in block
    names: dict[str, object] = {}
    exec(block.replace('["train.epochs=20"]', repr(SMALL)), names)
    report = names["report"]
    assert isinstance(report, dict)
    assert report["users"] > 0
    top = names["top"]
    assert isinstance(top, pa.Table)
    assert set(top["brand"].to_pylist()) == {"b0", "b1"}
