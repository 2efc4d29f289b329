"""`lrm demo`: the whole way on generated data, in under two minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from behavior.errors import UserError
from cli.console import out as console
from cli.console import print_json, print_table, progress_bars

MODELS = ("hstu", "sasrec")
LABELS = {
    "popularity": "popularity",
    "markov": "first-order Markov chain",
    "sasrec": "SASRec",
    "hstu": "HSTU",
    "history": "oracle: best ranker that sees the history",
    "latent": "oracle: ranker that knows the latent state",
}


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the log and of the trainings.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Generate multi-behavior logs, prepare, train HSTU and SASRec, evaluate, and write an HTML report.

    Example:  lrm demo --out demo
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"'{out}' is not empty", where="--out", fix="name a new folder, or remove this one")
    begin = time.perf_counter()
    seconds: dict[str, float] = {}
    with progress_bars(quiet=json) as bars:

        def timed(name: str, since: float) -> None:
            seconds[name] = time.perf_counter() - since
            if not json:
                bars.console.print(f"{name}: {seconds[name]:.1f} s", highlight=False)

        facts = _data(out, seed, timed)
        results = _baselines(out)
        for kind in MODELS:
            since = time.perf_counter()
            results[kind] = _train(out, kind, seed, bars)
            timed(f"train and evaluate {LABELS[kind]}", since)
    results |= facts["ceilings"]
    record = {
        "results": results,
        "share_of_history_oracle": _shares(results),
        "counts": facts["counts"],
        "seconds": seconds | {"all": time.perf_counter() - begin},
    }
    report = _report(out, record, facts)
    if json:
        print_json(record | {"report": str(report)})
        return
    _print(record)
    console.print(f"{record['seconds']['all']:.0f} s in all; report: {report}", highlight=False)


def _data(out: Path, seed: int, timed: Any) -> dict[str, Any]:
    """Generate the log, state its ceilings, and prepare the shards."""
    from behavior.spec.dataset_spec import load_spec
    from behavior.synthetic import SyntheticConfig, ceilings, generate
    from pipelines.prepare import prepare

    since = time.perf_counter()
    log = generate(SyntheticConfig(seed=seed))
    spec_path = log.write(out / "raw")
    timed("generate", since)
    since = time.perf_counter()
    found = ceilings(log)
    timed("compute the oracles", since)
    since = time.perf_counter()
    spec, base = load_spec(spec_path)
    manifest = prepare(spec, base, out / "shards").manifest
    timed("prepare", since)
    limits = {name: found[name] for name in ("history", "latent")}
    return {"ceilings": limits, "counts": manifest.counts.model_dump(), "manifest": manifest}


def _baselines(out: Path) -> dict[str, Any]:
    from models.config import load_config
    from models.evaluation.baselines import BASELINES, evaluate_baseline

    config = load_config("demo/hstu").evaluation
    return {name: evaluate_baseline(name, out / "shards", "test", config) for name in BASELINES}


def _train(out: Path, kind: str, seed: int, bars: Any) -> dict[str, Any]:
    from cli.train import TrainProgress
    from models.config import load_config
    from models.evaluate_run import evaluate
    from models.training import train

    progress = TrainProgress(bars, label=f"training {LABELS[kind]}", quiet=True)
    train(
        load_config(f"demo/{kind}", [f"train.seed={seed}"]),
        out / "shards",
        out / "runs" / kind,
        observer=progress,
    )
    return evaluate(out / "runs" / kind, "test")


def _shares(results: dict[str, Any]) -> dict[str, float]:
    best = results["history"]["ndcg@10"]
    return {kind: results[kind]["ndcg@10"] / best for kind in ("popularity", "markov", "sasrec", "hstu")}


def table_rows(record: dict[str, Any]) -> list[tuple[str, float, float, str]]:
    """Ranker, NDCG@10, HR@10 and share of the history oracle, from weak to strong."""
    shares = record["share_of_history_oracle"]
    rows = []
    for name, label in LABELS.items():
        share = f"{shares[name]:.0%}" if name in shares else ""
        rows.append((label, record["results"][name]["ndcg@10"], record["results"][name]["hr@10"], share))
    return rows


def _print(record: dict[str, Any]) -> None:
    users = record["results"]["hstu"]["users"]
    header = ("ranker", "NDCG@10", "HR@10", "of the history oracle")
    print_table(f"next purchase of {users:,} users, every item ranked", header, table_rows(record))


def _report(out: Path, record: dict[str, Any], facts: dict[str, Any]) -> Path:
    from cli.report import write_report

    return write_report(out, record, table_rows(record), facts["manifest"], {k: LABELS[k] for k in MODELS})
