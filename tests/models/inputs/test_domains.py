"""Embeddings of domains: each event's own, and that of the event to predict, in the tokens that ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.build import build_task, sequences_of
from models.config import load_config
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.data.versions import RowMaps
from models.data.windows import gather, history_windows
from models.evaluation.targets import find_targets
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.serving.load import load_model
from models.serving.score import History
from models.tasks.retrieval import model_scorer
from models.training import train
from tests.models.evaluation.domain_world import Log, make_log
from tests.models.shards import USERS, WORLD, write_shards

BOTH = ["embedding.domains=add", "embedding.query_domain=add"]
SMALL = ["model.dim=4", "model.max_length=6", "model.blocks=1", "train.device=cpu", "train.epochs=1"]


@pytest.fixture
def log() -> Log:
    return make_log(users=30)


def embedding_of(folder: Path, *changes: str) -> tuple[InputEmbedding, PackedBatch]:
    """With tables far from zero; and a batch of the histories of test targets."""
    shards, config = open_shards(folder), load_config("default", [*SMALL, "model.dropout=0", *changes])
    torch.manual_seed(0)
    task = build_task(config, shards)
    embedding: InputEmbedding = task.model.embedding
    for table in (embedding.domains.own, embedding.domains.asked):
        if table is not None:
            torch.nn.init.normal_(table.weight[1:])
    columns = task.columns
    if "target_domain" not in columns.names:
        other = load_config("default", [*SMALL, *BOTH])
        columns = build_task(other, shards).columns
    (data, *_) = sequences_of(shards, config, columns)
    targets = find_targets(data, "test")
    targets = targets.take(targets.stop > data.offsets[targets.sequence])
    windows = history_windows(data, targets.sequence, targets.stop, targets.event, 6)
    return embedding, gather(data, windows, time="known")


@pytest.mark.parametrize(
    ("layout", "item_at", "asks_at"),
    [("event", (1, 0), (1, 0)), ("interleaved", (2, 0), (2, 1))],
)
@pytest.mark.parametrize("setting", ["domains", "query_domain"])
def test_vectors_of_domains_are_added(
    tmp_path: Path, log: Log, layout: str, item_at: tuple[int, int], asks_at: tuple[int, int], setting: str
) -> None:
    folder = log.write(tmp_path)
    embedding, batch = embedding_of(folder, f"embedding.layout={layout}", f"embedding.{setting}=add")
    plain, _ = embedding_of(folder, f"embedding.layout={layout}")
    plain.load_state_dict(embedding.state_dict(), strict=False)
    added = (embedding(batch)[0] - plain(batch)[0]) / embedding.scale
    table = embedding.domains.own if setting == "domains" else embedding.domains.asked
    column = "domain" if setting == "domains" else "target_domain"
    expected = torch.zeros_like(added)
    times, shift = item_at if setting == "domains" else asks_at
    for event, domain in enumerate(batch[column].tolist()):
        expected[times * event + shift] = table.weight[domain]
    torch.testing.assert_close(added, expected)


def test_the_condition_of_behavior_first_is_told_the_domain(tmp_path: Path, log: Log) -> None:
    folder = log.write(tmp_path)
    embedding, batch = embedding_of(folder, "embedding.layout=behavior_first", "embedding.query_domain=add")
    changed = batch.with_values(target_domain=3 - batch["target_domain"])
    before, tokens = embedding(batch)
    after, _ = embedding(changed)
    moved = (before - after).abs().sum(1) > 0
    assert tokens.asking is not None
    assert moved.nonzero().flatten().tolist() == tokens.asking.tolist()


def test_the_own_domain_says_nothing_of_what_follows(tmp_path: Path, log: Log) -> None:
    embedding, batch = embedding_of(log.write(tmp_path), "embedding.domains=add")
    assert "target_domain" not in embedding.columns.names
    changed = batch.with_values(target_domain=3 - batch["target_domain"])
    assert torch.equal(embedding(batch)[0], embedding(changed)[0])


def test_a_query_is_told_the_domain_of_its_target(tmp_path: Path, log: Log) -> None:
    """In evaluation as in serving, where it is asked for: the same scores."""
    folder = log.write(tmp_path / "data")
    train(load_config("default", [*SMALL, *BOTH, "evaluation.exclude_seen=false"]), folder, tmp_path / "run")
    model = load_model(tmp_path / "run", device="cpu")
    torch.nn.init.normal_(model.task.model.embedding.domains.asked.weight[1:])
    (data, *_) = sequences_of(model.shards, model.config, model.task.columns)
    targets = find_targets(data, "test")
    targets = targets.take(targets.stop > data.offsets[targets.sequence])
    evaluated = model_scorer(model.task.model, model.config.model)(data, targets).columns(0, 16)
    histories, others = [], []
    for sequence, event in zip(targets.sequence, targets.event, strict=True):
        past = slice(data.offsets[sequence], event)
        wanted = int(data.events["domain"][event])
        history = History(
            items=data.item[past].tolist(),
            behaviors=data.behavior[past].tolist(),
            timestamps=data.timestamp[past].tolist(),
            features={"domain": data.events["domain"][past].tolist()},
            next_behavior=int(data.behavior[event]),
            next_timestamp=int(data.timestamp[event]),
            next_domain=wanted,
        )
        histories.append(history)
        others.append(replace(history, next_domain=3 - wanted))
    torch.testing.assert_close(model.score(histories), evaluated.float())
    assert not torch.isclose(model.score(others), evaluated.float(), rtol=1e-3).all(1).any()
    with pytest.raises(UserError, match="value of 'domain' outside 1 to 2"):
        model.score([replace(histories[0], next_domain=3)])


def test_another_data_set_has_its_domains_by_name(tmp_path: Path, log: Log) -> None:
    folders = [log.write(tmp_path / name) for name in ("one", "two")]
    manifest = folders[1] / "manifest.json"
    manifest.write_text(manifest.read_text().replace("books", "films"))
    maps = RowMaps.between(*map(open_shards, folders))
    assert maps.domains.tolist() == [0, -1, 2]


def test_one_domain_has_no_embedding(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "data", USERS, WORLD)
    with pytest.raises(UserError, match="has one domain only") as caught:
        build_task(load_config("default", BOTH), open_shards(folder))
    assert caught.value.where == "embedding.domains = add"
    catalog = ItemCatalog(5, 2, torch.ones(5, dtype=torch.int64))
    with pytest.raises(UserError, match="gives its model no domains"):
        InputEmbedding(EmbeddingConfig(query_domain="add"), catalog, 1, 4, 6, 0.0)
