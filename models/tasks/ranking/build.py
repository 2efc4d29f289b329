"""From settings and a data set to the model of ranking, its loss and its task."""

from __future__ import annotations

from functools import partial

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.data.about import About, about_sequences
from models.data.catalog import ItemCatalog
from models.data.columns import Columns
from models.data.declared import event_column
from models.data.side import EventFeature, SideInformation, choose
from models.distributed.tables import MakeItemTable, WholeTable
from models.evaluation.actions.labels import Label, parse_labels
from models.evaluation.actions.sampled import Negatives
from models.inputs.ranking_embedding import RankingEmbedding
from models.tasks.config import TaskSettings
from models.tasks.parts import embedding_and_backbone, read_catalog
from models.tasks.ranking.checks import check_counters, check_ensemble, check_ranking
from models.tasks.ranking.counter_head import CounterHead
from models.tasks.ranking.counters import Counters
from models.tasks.ranking.ensemble import EnsembleObjective, RankingEnsemble
from models.tasks.ranking.heads import HEADS, HeadSizes
from models.tasks.ranking.joint import joint_loss
from models.tasks.ranking.members import members_of
from models.tasks.ranking.model import RankingModel
from models.tasks.ranking.objective import RankingObjective
from models.tasks.ranking.rates import rate_tables
from models.tasks.ranking.task import RankingTask
from models.tasks.ranking.told import Told, edges_of


def build_ranking(
    settings: TaskSettings, shards: ShardFolder, make_items: MakeItemTable = WholeTable
) -> RankingTask:
    """The task with a model of fresh weights, on the CPU.

    Raises:
        UserError: there is no label, or a setting does not fit the data or ranking.
    """
    about = about_sequences(shards)
    check_ranking(settings)
    check_counters(settings, about)
    if settings.task.label is None:
        raise UserError(
            "what is to be predicted?",
            where="task.label",
            fix="name a label, such as --set 'task.label=value>=4', or --set task.label=buy",
        )
    labels, judged = _labels(settings, about)
    negatives = Negatives.of(settings.task.negatives, shards, labels)
    catalog, weights = read_catalog(settings, shards), label_weights(settings, labels)
    if settings.task.members:
        check_ensemble(settings, labels)
        members = [
            _model(member, shards, about, labels, judged, catalog, make_items)
            for member in members_of(settings)
        ]
        together = EnsembleObjective(RankingEnsemble(members), weights, settings.task.collaboration)
        return RankingTask(settings.model, together, negatives)
    model = _model(settings, shards, about, labels, judged, catalog, make_items)
    joint = joint_loss(settings, model, catalog)
    return RankingTask(settings.model, RankingObjective(model, weights, joint), negatives)


def _model(
    settings: TaskSettings,
    shards: ShardFolder,
    about: About,
    labels: list[Label],
    judged: int,
    catalog: ItemCatalog,
    make_items: MakeItemTable,
) -> RankingModel:
    task = settings.task
    told, edges = Told(labels, shards), edges_of(labels, task.value_edges)
    value = told.value
    if value is None and task.value_edges:
        value = event_column(shards, "value")
    known, known_own, side = _features(settings, shards)
    embedding, backbone = embedding_and_backbone(
        settings,
        catalog,
        num_behaviors=about.num_behaviors,
        has_time=about.has_time,
        make_items=make_items,
        side=side,
        make_embedding=partial(
            RankingEmbedding,
            actions=task.actions,
            item=event_column(shards, "item", of_target=True),
            value=value,
            edges=edges,
            known=known,
            known_own=known_own,
        ),
    )
    assert isinstance(embedding, RankingEmbedding)
    if embedding.item.is_divided:
        raise UserError(
            "ranking looks candidates up one by one, in a whole table of items",
            where="train.item_table = sharded",
            fix="--set train.item_table=replicated",
        )
    rates = rate_tables(settings, shards, labels[:judged], catalog)
    counters = Counters.of(task.counters, labels[:judged], catalog, task.counter_facts, rates)
    sizes = HeadSizes(
        dim=settings.model.dim,
        context=0 if task.counter_dims else counters.width,
        labels=len(labels),
        hidden=tuple(task.head_dims),
        experts=task.experts,
        dropout=task.head_dropout,
    )
    beside = None
    if task.counter_dims:
        beside = CounterHead(counters.width, task.counter_dims, len(labels), task.head_dropout)
    head = HEADS[task.head](sizes)
    return RankingModel(embedding, backbone, head, told, counters, judged, beside)


def _labels(settings: TaskSettings, about: About) -> tuple[list[Label], int]:
    """All labels, and how many of them, the first ones, are judged."""
    task = settings.task
    assert task.label is not None
    judged = parse_labels(task.label, about.behaviors)
    beside = parse_labels(task.auxiliary, about.behaviors, "task.auxiliary") if task.auxiliary else []
    twice = [label.name for label in beside if label.name in {each.name for each in judged}]
    if twice:
        raise UserError(
            f"'{twice[0]}' is a label already", where=f"task.auxiliary = {task.auxiliary}", fix="leave it out"
        )
    return [*judged, *beside], len(judged)


def _features(
    settings: TaskSettings, shards: ShardFolder
) -> tuple[list[EventFeature], Columns, SideInformation]:
    """Features of events that are known beforehand, their columns of events themselves, and all others."""
    names, embedding = settings.task.known_features, settings.embedding
    entries = choose(shards.manifest.event_features, names, "event", "task.known_features")
    known = [EventFeature(entry, event_column(shards, entry.name, of_target=True)) for entry in entries]
    own = Columns(tuple(event_column(shards, entry.name) for entry in entries))
    afterwards = choose(shards.manifest.event_features, embedding.event_features, "event")
    twice = [entry.name for entry in afterwards if entry.name in names]
    if twice and embedding.event_features != "all":
        raise UserError(
            f"event feature '{twice[0]}' is known before an action, or a part of it, not both",
            where=f"task.known_features = {names}, embedding.event_features = {embedding.event_features}",
            fix="leave it out of one of them",
        )
    events = [entry.name for entry in afterwards if entry.name not in names]
    return known, own, SideInformation.from_shards(shards, users=embedding.user_features, events=events)


def label_weights(settings: TaskSettings, labels: list[Label]) -> list[float]:
    """The weight of each label in the loss; 1 where it has none.

    Raises:
        UserError: a label is not known, or all weigh nothing.
    """
    weights, names = settings.task.weights, [label.name for label in labels]
    where = f"task.weights = {weights}"
    for name in weights:
        if name not in names:
            raise UserError(f"there is no label '{name}'", where=where, fix=did_you_mean(name, names))
    found = [weights.get(name, 1.0) for name in names]
    if not any(found):
        raise UserError(
            "all labels weigh 0: nothing is learned", where=where, fix="give one a weight above 0"
        )
    return found
