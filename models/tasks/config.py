"""Settings of a task: which it is, and what its model is shown of a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Protocol

from pydantic import Field

from behavior.config import Config, Unused
from models.backbones.config import BackboneConfig
from models.data.config import DataConfig
from models.data.loading.config import LoaderConfig
from models.evaluation.actions.config import NegativesConfig
from models.evaluation.config import EvaluationConfig
from models.inputs.config import EmbeddingConfig
from models.losses.config import LossConfig


class TaskConfig(Config):
    """What the model is trained for."""

    kind: str = Field(
        "retrieval",
        description="retrieval: rank all items for what comes next; ranking: how likely each action with a "
        "given item is; or a task registered from Python",
    )
    label: str | list[str] | None = Field(
        None,
        description="ranking: what is predicted of an event, one or several: behaviors (buy, cart|buy), a "
        "condition on the value (value>=4), one against another (value>=4 against value<=2), or value, the "
        "number itself",
    )
    weights: dict[str, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]] = Field(
        {}, description="ranking: weights of labels in the loss, by name; 1 where it has none"
    )
    auxiliary: list[str] = Field(
        [],
        description="ranking: further labels, in the forms of label, that the head learns beside and nobody "
        "judges: how much a film is liked says more than whether it is",
    )
    actions: Literal["interleaved", "joined", "added"] = Field(
        "interleaved",
        description="ranking: how actions stand in the sequence; interleaved: a token behind the item's; "
        "joined: that token has the item's vector, too; added: to the next item, half as many tokens",
    )
    value_edges: list[float] = Field(
        [],
        description="ranking: edges of the buckets that values of past events are told apart by, besides "
        "those of the label",
    )
    known_features: list[str] = Field(
        [],
        description="ranking: features of events that are known before the action, such as the device; all "
        "others are a part of it",
    )
    members: list[str] = Field(
        [],
        description="ranking: backbones that are trained together, each with tables of its own, "
        "such as [hstu, llama]; empty: one model, by model.kind",
    )
    collaboration: float = Field(
        0.0,
        ge=0.0,
        allow_inf_nan=False,
        description="ranking: weight of the symmetric KL divergence between members in the loss (CETNet)",
    )
    retrieval_weight: float = Field(
        0.0,
        ge=0.0,
        allow_inf_nan=False,
        description="ranking: weight of the loss of retrieval, by the section loss, on the same backbone: "
        "which item comes next is asked at every action; 0: ranking alone",
    )
    counters: list[str] = Field(
        [],
        description="ranking: counters beside the sequence, of the user's events before: user: all of them; "
        "item: those with the candidate; or features of items: those of the same value; and with which label",
    )
    counter_facts: list[Literal["count", "recent", "since"]] = Field(
        ["count"],
        min_length=1,
        description="ranking: what counters say; count: how often, and with which label; recent: the same, "
        "an event counting .9 of the one after it; since: how long ago the latest was",
    )
    counter_dims: list[Annotated[int, Field(ge=1)]] = Field(
        [],
        description="ranking: widths of the hidden layers of a perceptron over counters and rates alone, "
        "standardized by the training part, whose logits are added to the head's; empty: the head has them",
    )
    rates: list[str] = Field(
        [],
        description="ranking: what everybody did before the question, in the training part, beside the "
        "sequence: item: with the candidate; or features of items: with those of the same value",
    )
    negatives: NegativesConfig = NegativesConfig()
    head: Literal["dot", "mlp", "ffn", "mmoe", "ple"] = Field(
        "mlp",
        description="ranking: head over backbone's output and candidate; dot: product of both; mlp: a "
        "perceptron; ffn: a feed-forward block on the output alone; mmoe: experts that labels share, mixed "
        "by each; ple: in levels, with experts of each label besides",
    )
    head_dims: list[Annotated[int, Field(ge=1)]] = Field(
        [64], min_length=1, description="ranking: widths of the head's hidden layers; ffn has the first"
    )
    head_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="ranking: dropout behind the head's hidden layers"
    )
    experts: int = Field(
        4, ge=1, description="ranking: experts that labels share (mmoe, ple), and of each label (ple)"
    )

    def unused(self) -> Iterator[Unused]:
        """See `behavior.config.Config.unused`. A task from Python may use any of them."""
        if self.kind == "retrieval":
            names = [name for name in type(self).model_fields if name not in ("kind", "negatives")]
            of_ranking = [*names, "negatives.ratio"]
            yield Unused(of_ranking, "kind is retrieval", "set task.kind to ranking (--task ranking)")
            return
        if self.kind != "ranking":
            return
        if not self.counters:
            yield Unused(["counter_facts"], "counters is empty", "set counters to [user, item]")
            if not self.rates:
                yield Unused(["counter_dims"], "there is nothing counted", "set counters to [user, item]")
        if self.head not in ("mmoe", "ple"):
            yield Unused(["experts"], f"head is {self.head}, which has none", "set head to mmoe or ple")
        if self.head == "dot":
            names = ["head_dims", "head_dropout"]
            yield Unused(names, "head is dot, which has no hidden layers", "set head to another one")
        if self.head == "ffn" and len(self.head_dims) > 1:
            yield Unused(["head_dims"], "head is ffn, which has one hidden layer", "give one width")


class ModelConfig(BackboneConfig):
    """The backbone, and what it is shown of a sequence."""

    max_length: int = Field(200, ge=1, description="maximum history length N, in events")
    input_behaviors: Literal["all", "target"] | list[str] = Field(
        "all",
        description="behaviors of the events that are inputs, in training and evaluation alike: all, target, "
        "or a list of names; events of others are left out before histories are cut to max_length, targets "
        "stay",
    )
    time: Literal["known", "unknown"] = Field(
        "known",
        description="whether a query knows the timestamp of the event to predict, in training and evaluation "
        "alike",
    )


class TaskSettings(Protocol):
    """What a task is built from; `models.config.RunConfig` has all of it."""

    @property
    def task(self) -> TaskConfig: ...

    @property
    def model(self) -> ModelConfig: ...

    @property
    def embedding(self) -> EmbeddingConfig: ...

    @property
    def loss(self) -> LossConfig: ...

    @property
    def data(self) -> DataConfig: ...

    @property
    def loader(self) -> LoaderConfig: ...

    @property
    def evaluation(self) -> EvaluationConfig: ...
