"""The same by RecTools, in an environment of its own.

    python rectools_program.py EVENTS.csv SETTINGS

Settings, as JSON: blocks, dim, heads, max_length, k, threads, exclude_seen. The model learns from one batch,
as the values of weights take no time. Prints JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time


def main() -> None:
    events, given = sys.argv[1], json.loads(sys.argv[2])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(given["threads"])
    import pandas as pd
    import rectools
    import torch
    from pytorch_lightning import Trainer
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    torch.set_num_threads(given["threads"])
    frame = pd.read_csv(events)
    frame[Columns.Weight] = 1.0
    frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
    dataset = Dataset.construct(frame)

    def one_batch() -> Trainer:
        quiet = dict.fromkeys(
            ("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger"), False
        )
        return Trainer(max_steps=1, limit_train_batches=1, accelerator="cpu", **quiet)

    model = SASRecModel(
        n_blocks=given["blocks"],
        n_factors=given["dim"],
        n_heads=given["heads"],
        session_max_len=given["max_length"],
        batch_size=128,
        get_trainer_func=one_batch,
        recommend_torch_device="cpu",
        recommend_n_threads=given["threads"],
    ).fit(dataset)
    users = frame[Columns.User].unique()
    asked = {"k": given["k"], "filter_viewed": given["exclude_seen"]}
    model.recommend(users=users[:200], dataset=dataset, **asked)
    begin, used = time.perf_counter(), _used()
    found = model.recommend(users=users, dataset=dataset, **asked)
    seconds, cpu = time.perf_counter() - begin, _used() - used
    record = {
        "version": rectools.__version__,
        "users": len(users),
        "rows": len(found),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "users_a_second": len(users) / seconds,
    }
    print("\n" + json.dumps(record))


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
