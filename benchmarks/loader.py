"""From shards to batches: tokens a second on one core, and a plain padded torch DataLoader beside it.

    LRM_DATA=... python benchmarks/loader.py                  ML-1M and 20 million generated events
    LRM_DATA=... python benchmarks/loader.py --events 2000000 --runs 1

Everything runs on one thread of one process, reading included (`threads=0`). The first epoch of a loader
reads and decodes the shards, from the page cache; the next takes what it keeps in memory. Times are medians
of --runs loaders.

The peer is what one writes without lrm: all sequences in memory from the same Parquet files, a Dataset that
cuts the newest N events of a user and gives the same columns as int64 tensors, and `pad_sequence` for the
batch.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from prepare_peers import events as generated
from synthetic import machine
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from behavior.sampling.config import SamplingConfig
from behavior.shards.folder import ShardFolder, open_shards
from behavior.spec.dataset_spec import load_spec
from models.data.loading import LoaderConfig, ShardSource, TrainLoader
from models.data.sequences import SequenceData, concat_sequences
from pipelines.prepare import prepare

BATCHES: tuple[dict[str, int], ...] = ({"batch_tokens": 65_536}, {"batch_sequences": 128})
SAMPLINGS: dict[str, dict[str, Any]] = {
    "newest N": {},
    "random window": {"window": "random"},
    "stochastic length, newest": {"stochastic_length": {"alpha": 1.6, "select": "newest"}},
    "stochastic length, random": {"stochastic_length": {"alpha": 1.6, "select": "random"}},
    "stochastic length, recency": {"stochastic_length": {"alpha": 1.6, "select": "recency"}},
}
PEER_SEQUENCES = 20_000
"""Most sequences of the peer's epoch: its time is linear in them."""


@dataclass(frozen=True)
class Epoch:
    """What one pass took."""

    seconds: float
    tokens: int
    steps: int
    bytes: int

    @property
    def rate(self) -> float:
        """Real tokens a second."""
        return self.tokens / self.seconds


def timed(batches: Iterable[Any], sizes: Any) -> Epoch:
    """Go through all batches; `sizes` tells real tokens and bytes of one."""
    tokens = size = steps = 0
    start = time.perf_counter()
    for batch in batches:
        real, held = sizes(batch)
        tokens, size, steps = tokens + real, size + held, steps + 1
    return Epoch(time.perf_counter() - start, tokens, steps, size)


def run_loader(
    shards: ShardFolder, length: int, sampling: dict[str, Any], batch: dict[str, int]
) -> list[Epoch]:
    """The first and the second epoch of a fresh loader."""
    config = LoaderConfig(threads=0, sampling=SamplingConfig(**sampling), cache_mib=4096)
    loader = TrainLoader(ShardSource(shards, cache_bytes=4 << 30), config, max_length=length, **batch)  # type: ignore[arg-type]
    return [timed(loader, lambda batch: (batch.num_events, batch.nbytes)) for _ in range(2)]


class Padded(Dataset[dict[str, torch.Tensor]]):
    """The newest N inputs of a user, one at a time."""

    def __init__(self, data: SequenceData, length: int) -> None:
        self.data, self.length = data, length
        self.rows = np.flatnonzero(data.train_end >= 2)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        data, row = self.data, self.rows[number]
        begin = data.offsets[row]
        stop = begin + data.train_end[row] - 1
        begin = max(begin, stop - self.length)
        inputs, following = slice(begin, stop), slice(begin + 1, stop + 1)
        return {
            "item": torch.from_numpy(data.item[inputs].astype(np.int64)),
            "behavior": torch.from_numpy(data.behavior[inputs].astype(np.int64)),
            "timestamp": torch.from_numpy(data.timestamp[inputs].astype(np.int64)),
            "query_time": torch.from_numpy(data.timestamp[following].astype(np.int64)),
            "position": torch.arange(stop - begin),
            "target": torch.from_numpy(data.item[following].astype(np.int64)),
            "target_behavior": torch.from_numpy(data.behavior[following].astype(np.int64)),
        }


def pad(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """[sequences, longest] of each column, and the lengths."""
    batch = {
        name: pad_sequence([sample[name] for sample in samples], batch_first=True) for name in samples[0]
    }
    return batch | {"length": torch.tensor([len(sample["item"]) for sample in samples])}


def run_peer(shards: ShardFolder, length: int) -> tuple[Epoch, float]:
    """An epoch of the padded loader, and the seconds it took to read the data."""
    start = time.perf_counter()
    data = concat_sequences(list(ShardSource(shards)))
    reading = time.perf_counter() - start
    dataset: Dataset[Any] = Padded(data, length)
    count = len(dataset)  # type: ignore[arg-type]
    if count > PEER_SEQUENCES:
        chosen = np.random.default_rng(0).permutation(count)[:PEER_SEQUENCES]
        dataset = torch.utils.data.Subset(dataset, chosen.tolist())
        reading *= PEER_SEQUENCES / count
    loader = DataLoader(dataset, batch_size=128, shuffle=True, collate_fn=pad)

    def sizes(batch: dict[str, torch.Tensor]) -> tuple[int, int]:
        return int(batch["length"].sum()), sum(tensor.nbytes for tensor in batch.values())

    return timed(loader, sizes), reading


def report(name: str, shards: ShardFolder, length: int, runs: int) -> None:
    """Both tables of one data set."""
    total = shards.manifest.counts.events
    print(f"\n{name}, N {length:,}; {total:,} events")
    row = "{:<28} {:<18} {:>7} {:>7} {:>10} {:>10} {:>8}"
    print(row.format("sampling", "batches", "steps", "fill", "1st epoch", "2nd epoch", "B/token"))
    ours: dict[tuple[str, str], float] = {}
    for settings in SAMPLINGS.values():
        for batch in BATCHES:  # loads what is compiled, checks the files, settles the allocator
            run_loader(shards, length, settings, batch)
    for sampling, settings in SAMPLINGS.items():
        for batch in BATCHES:
            epochs = [run_loader(shards, length, settings, batch) for _ in range(runs)]
            first, second = (median(epoch[turn].rate for epoch in epochs) / 1e6 for turn in range(2))
            last = epochs[-1][1]
            label = " ".join(f"{size:,} {kind.removeprefix('batch_')}" for kind, size in batch.items())
            budget = batch.get("batch_tokens")
            # The last step of an epoch takes what is left.
            fill = f"{last.tokens / last.steps / budget:.2%}" if budget else ""
            held = f"{last.bytes / last.tokens:.1f}"
            print(
                row.format(sampling, label, last.steps, fill, f"{first:.1f} M/s", f"{second:.1f} M/s", held)
            )
            ours[sampling, label] = first
    peers = [run_peer(shards, length) for _ in range(runs)]
    epoch = peers[-1][0]
    fast = median(peer.rate for peer, _ in peers) / 1e6
    whole = median(peer.tokens / (peer.seconds + reading) for peer, reading in peers) / 1e6
    held = f"{epoch.bytes / epoch.tokens:.1f}"
    print(
        row.format(
            "padded DataLoader", "128 sequences", epoch.steps, "", f"{whole:.2f} M/s", f"{fast:.2f} M/s", held
        )
    )
    ratio = ours["newest N", "128 sequences"] / whole
    print(f"newest N in batches of 128 sequences is {ratio:.1f} times as fast as the padded DataLoader")


def data_sets(events: int, folder: Path) -> Iterator[tuple[str, ShardFolder]]:
    """Shards of ML-1M, where LRM_DATA is set, and of a generated log."""
    if "LRM_DATA" in os.environ:
        source = Path(os.environ["LRM_DATA"]) / "ml-1m"
        prepare(*load_spec("ml-1m", input_folder=source), folder / "ml-1m")
        yield "ML-1M", open_shards(folder / "ml-1m")
    spec = generated.write_events(folder / "raw", events, "parquet")
    prepare(*load_spec(spec), folder / "generated")
    yield "generated", open_shards(folder / "generated")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="+", default=[200, 2048])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, torch {torch.__version__}; one thread")
    with tempfile.TemporaryDirectory() as folder:
        for name, shards in data_sets(arguments.events, Path(folder)):
            for length in arguments.lengths:
                report(name, shards, length, arguments.runs)


if __name__ == "__main__":
    main()
