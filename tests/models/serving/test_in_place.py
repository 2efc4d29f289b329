"""Caches whose keys and values are read in their pages, from events on the host to answers, against models
that compute whole histories densely: kernels interpreted where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.attention import dispatch
from models.attention.paged.tuning import chosen
from models.backbones import backbone as backbones
from models.gpu.availability import without_kernels
from models.serving.cache import HistoryCache
from models.serving.cache.past import PagedPast, PastInPlace
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.scoring import scoring
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.interpreted import DEVICE, on_gpu
from tests.models.serving import cached
from tests.models.serving.cached import Log, N, asked_otherwise, assert_close, batch_of, make_model, padded

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")
LARGE, BLOCKS = 1 << 20, 2
TOLERANCE = 1e-4 if on_gpu else 1e-5
"""There products of float32 are three of tf32 each (as in test_cached_graphs)."""
KINDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"kind": "hstu"}, {"behaviors": "add", "query_behavior": "add"}),
    ({"kind": "hstu", "attention_window": 2, "attention_global": 1}, {"users": 2}),
    ({"kind": "hstu", "bias": "decay", "bias_tables": "per_head"}, {}),
    ({"kind": "hstu", "bias": "rope", "activation": "softmax"}, {}),
    ({"kind": "sasrec", "bias": "both"}, {}),
    ({"kind": "llama", "attention_window": 3}, {}),
    ({"kind": "ligr"}, {"positions": "attention_only"}),
]


def recomputed(model: RetrievalModel, logs: list[Log]) -> torch.Tensor:
    """Queries of whole histories by the oracle of attention, without kernels."""
    with pytest.MonkeyPatch.context() as patch, without_kernels():
        patch.setenv("LRM_ATTENTION", "reference")
        return cached.recomputed(model, logs, "known").cpu()


def names(config: dict[str, Any]) -> str:
    return " ".join(map(str, config.values()))


class Watched:
    """What was called how often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts = {"attend": 0, "extend": 0, "chain": 0}
        self._wrap(monkeypatch, PastInPlace, "attend")
        self._wrap(monkeypatch, PagedPast, "extend")
        self._wrap(monkeypatch, backbones, "chain")

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def counted(*given: Any, **named: Any) -> Any:
            self.counts[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize(("config", "embedding"), KINDS, ids=names)
def test_read_in_their_pages(
    config: dict[str, Any], embedding: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Histories begin, go on over pages and past the window, are asked otherwise, and have candidates."""
    watched, generator = Watched(monkeypatch), torch.Generator().manual_seed(0)
    model = make_model({"blocks": BLOCKS, **config}, **embedding).to(DEVICE)
    cache = HistoryCache(model, LARGE, time="known", window=N - 1, page_events=2, graphs=False)
    logs, users = [Log(), Log(user=1)], [4, 9]

    def grow(*counts: int) -> Any:
        for log, count in zip(logs, counts, strict=True):
            log.grow(count, generator)
        seen = cache.seen(users).tolist()
        return batch_of([log.after(begin) for log, begin in zip(logs, seen, strict=True)], "known")

    def whole() -> list[Log]:
        return [log.after(max(len(log.items) - N + 1, 0)) for log in logs]

    def checked(found: torch.Tensor, expected: torch.Tensor) -> None:
        assert_close(found.cpu(), expected, TOLERANCE)

    checked(cache.append(users, grow(3, 1)), recomputed(model, whole()))
    with chosen(parts=2):  # several programs share the keys of a tile
        checked(cache.append(users, grow(1, 2)), recomputed(model, whole()))
    new, items, counts = grow(3, 1), [3, 5, 2, 7, 4], [2, 3]
    asked_otherwise(logs)
    asked = [log.asked_at for log in logs]
    wanted = [log.wanted for log in logs]
    found = cache.candidates(users, items, counts, asked, behavior=wanted, new=new)
    last = whole()
    one_by_one = [
        log.followed_by(item) for log, item in zip([last[0]] * 2 + [last[1]] * 3, items, strict=True)
    ]
    with scoring(model):
        checked(model.queries(found), recomputed(model, one_by_one))
    checked(cache.queries(users, asked, behavior=wanted), recomputed(model, last))
    passes = 4
    assert watched.counts["attend"] == passes * BLOCKS
    assert watched.counts["extend"] == 0
    assert watched.counts["chain"] == passes * (config["kind"] == "hstu")


def test_in_padded_passes_and_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded on a GPU: room for more than there is, whose lengths only the device knows."""
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    monkeypatch.setattr("models.serving.cache.call._PARTS", 1)
    watched, generator = Watched(monkeypatch), torch.Generator().manual_seed(0)
    model, logs = make_model({"kind": "hstu", "blocks": BLOCKS}).to(DEVICE), [Log() for _ in range(3)]
    exact, rounded = (
        HistoryCache(model, LARGE, time="known", window=N - 1, page_events=2, storage=storage, graphs=False)
        for storage in ("float32", "bfloat16")
    )
    padded(exact), padded(rounded)
    for log, length in zip(logs, (3, 5, 1), strict=True):
        log.grow(length, generator)
    for cache, tolerance in ((exact, TOLERANCE), (rounded, 0.05)):
        found = cache.append(range(3), batch_of(logs, "known"))
        assert_close(found.cpu(), recomputed(model, logs), tolerance)
        found = cache.candidates(range(3), [3, 4, 5], [0, 2, 1])
        one_by_one = [
            log.followed_by(item) for log, item in zip((logs[1], logs[1], logs[2]), (3, 4, 5), strict=True)
        ]
        with scoring(model):
            expected = recomputed(model, one_by_one)
            assert_close(model.queries(found).cpu(), expected, tolerance)
        assert cache.counts.replayed == 2
    assert watched.counts == {"attend": 4 * BLOCKS, "extend": 0, "chain": 4}
