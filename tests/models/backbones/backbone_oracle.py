"""Backbones the slow obvious way: one sequence and one token at a time, from the formulas, in float64.

Shares nothing with the package but the names of parameters; differentiable by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.backbones import BackboneConfig
from models.data.batch import PackedBatch
from tests.models.attention.attention_oracle import Rules, norm, one_sequence

N = 9
Parameters = dict[str, Tensor]
Rows = list[Tensor]


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rms(row: Tensor, eps: float) -> Tensor:
    return row / torch.sqrt((row * row).sum() / len(row) + eps)


def turned(vector: Tensor, position: int) -> Tensor:
    """RoPE: the pair (i, i + d / 2) is a complex number, turned by position * 10000^(-2 i / d)."""
    half = len(vector) // 2
    real, imaginary = [], []
    for i in range(half):
        angle = position * 10000.0 ** (-2 * i / len(vector))
        a, b = vector[i], vector[i + half]
        real.append(a * math.cos(angle) - b * math.sin(angle))
        imaginary.append(a * math.sin(angle) + b * math.cos(angle))
    return torch.stack(real + imaginary)


@dataclass
class Story:
    """The tokens of one sequence; the last of them are candidates, the first are context."""

    query_time: list[int]
    timestamp: list[int]
    position: list[int]
    context: int = 0
    candidates: int = 0
    attributes: list[Rows] = field(default_factory=list)
    """Embeddings of features, of all tokens each."""


@dataclass
class Layer:
    """One block and one sequence."""

    parameters: Parameters
    block: str
    config: BackboneConfig
    story: Story

    def get(self, name: str) -> Tensor | None:
        return self.parameters.get(f"{self.block}.{name}")

    def linear(self, name: str, row: Tensor) -> Tensor:
        out = self.parameters[f"{self.block}.{name}.weight"] @ row
        bias = self.get(f"{name}.bias")
        # Of V, Q and K in one layer, keys have none where they would all move alike.
        return out if bias is None else torch.cat([out[: len(bias)] + bias, out[len(bias) :]])

    def layer_norm(self, name: str, row: Tensor, eps: float) -> Tensor:
        return norm(row, eps) * self.parameters[f"{self.block}.{name}.weight"] + self.get(f"{name}.bias")

    def rms_norm(self, name: str, row: Tensor, eps: float) -> Tensor:
        return rms(row, eps) * self.parameters[f"{self.block}.{name}.weight"]

    def heads(self, rows: Rows) -> Tensor:
        """[length, heads, dim]"""
        return torch.stack(rows).view(len(rows), self.config.heads, -1)

    def attention(self, q: Rows, k: Rows, v: Rows, prefix: str, activation: str) -> Rows:
        """All heads joined, a row a token; softmax with its scale, SiLU divided by N."""
        queries, keys = self.heads(q), self.heads(k)
        if self.config.relative_bias == "rope":
            queries, keys = (
                torch.stack(
                    [
                        torch.stack([turned(head, i) for head in row])
                        for i, row in zip(self.story.position, rows, strict=True)
                    ]
                )
                for rows in (queries, keys)
            )
        rate = self.get(f"{prefix}bias.decay.log_rate")
        attended = one_sequence(
            queries,
            keys,
            self.heads(v),
            activation=activation,
            position=self.get(f"{prefix}bias.position"),
            time=self.get(f"{prefix}bias.time"),
            amount=self.get(f"{prefix}bias.decay.amount"),
            rate=None if rate is None else torch.exp(rate),
            decay=self.config.decay or "power",
            window=self.config.attention_window,
            prefix=self.config.attention_global,
            context=self.story.context,
            candidates=self.story.candidates,
            query_time=self.story.query_time,
            timestamp=self.story.timestamp,
            qk_scale=1 / math.sqrt(self.config.query_dim) if activation == "softmax" else 1.0,
            output_scale=1.0 if activation == "softmax" else 1 / N,
            apart=self.apart(prefix, activation),
        )
        return [row.flatten() for row in attended]

    def apart(self, prefix: str, activation: str) -> Tensor | None:
        """[heads, length, length] `sum_j E_j Wq_j (E_j Wk_j)^T`, scaled as the items' scores; DIF-SR."""
        preset = self.config.preset
        pointwise = preset.pointwise if self.config.pointwise is None else self.config.pointwise
        total = None
        for number, rows in enumerate(self.story.attributes):
            queries, keys = (
                torch.stack(
                    [
                        self.parameters[f"{self.block}.{prefix}attributes.{name}.{number}.weight"] @ row
                        for row in rows
                    ]
                )
                for name in ("query", "key")
            )
            if pointwise:
                queries, keys = silu(queries), silu(keys)
            queries, keys = (
                part.view(len(rows), self.config.heads, -1).transpose(0, 1) for part in (queries, keys)
            )
            scores = queries @ keys.transpose(1, 2)
            scores = scores / math.sqrt(self.config.query_dim) if activation == "softmax" else scores
            total = scores if total is None else total + scores
        return total

    def vqk(self, name: str, row: Tensor) -> tuple[Tensor, ...]:
        qk, v = self.config.heads * self.config.query_dim, self.config.heads * self.config.value_dim
        return self.linear(name, row).split([v, qk, qk])


def hstu(layer: Layer, x: Rows) -> Rows:
    """U, V, Q, K = split(SiLU(f1(norm(x)))); A = SiLU(Q K^T + rab) / N; f2(norm(A V) * U) + x.

    Without the gate there is no U, without the pointwise transform no SiLU; softmax for SiLU in A.
    """
    config = layer.config
    has_gate = config.gate is not False
    qk, v_dim = config.heads * config.query_dim, config.heads * config.value_dim
    u, v, q, k = [], [], [], []
    for row in x:
        hidden = layer.linear("f1", norm(row, 1e-6))
        hidden = hidden if config.pointwise is False else silu(hidden)
        parts = list(hidden.split(([v_dim] if has_gate else []) + [v_dim, qk, qk]))
        u.append(parts.pop(0) if has_gate else torch.ones(()))
        for part, piece in zip((v, q, k), parts, strict=True):
            part.append(piece)
    attended = layer.attention(q, k, v, "", config.activation or "silu")
    return [
        layer.linear("f2", norm(a, 1e-6) * gate) + row for a, gate, row in zip(attended, u, x, strict=True)
    ]


def sasrec(layer: Layer, x: Rows) -> Rows:
    """h = norm(x); a = softmax(h Wq (x Wk)^T / sqrt(d)) x Wv + h; g = norm(a); relu(g W1) W2 + g."""
    h = [layer.layer_norm("attention.residual.norm", row, 1e-8) for row in x]
    attended = sasrec_attention(layer, h, x)
    out = []
    for a, row in zip(attended, h, strict=True):
        g = layer.layer_norm("feed_forward.residual.norm", a + row, 1e-8)
        out.append(sasrec_feed_forward(layer, g) + g)
    return out


def sasrec_attention(layer: Layer, queries_from: Rows, keys_from: Rows) -> Rows:
    return layer.attention(
        [layer.linear("attention.f1.query", row) for row in queries_from],
        [layer.linear("attention.f1.key", row) for row in keys_from],
        [layer.linear("attention.f1.value", row) for row in keys_from],
        "attention.",
        "softmax",
    )


def sasrec_feed_forward(layer: Layer, row: Tensor) -> Tensor:
    return layer.linear("feed_forward.network.f2", torch.relu(layer.linear("feed_forward.network.f1", row)))


def sasrec_pre_norm(layer: Layer, x: Rows) -> Rows:
    """The graft: h = norm(x); a = x + softmax(h Wq (h Wk)^T / sqrt(d)) h Wv; a + relu(norm(a) W1) W2."""
    h = [layer.layer_norm("attention.residual.norm", row, 1e-8) for row in x]
    out = []
    for row, attended in zip(x, sasrec_attention(layer, h, h), strict=True):
        a = row + attended
        out.append(a + sasrec_feed_forward(layer, layer.layer_norm("feed_forward.residual.norm", a, 1e-8)))
    return out


def attention_of(layer: Layer, rows: Rows) -> Rows:
    """f2(softmax(Q K^T / sqrt(d)) V) of GPT, Llama and LiGR, whose V, Q and K come from one layer."""
    v, q, k = zip(*(layer.vqk("attention.f1", row) for row in rows), strict=True)
    attended = layer.attention(list(q), list(k), list(v), "attention.", "softmax")
    return [layer.linear("attention.f2", row) for row in attended]


def gelu_network(layer: Layer, row: Tensor) -> Tensor:
    return layer.linear("feed_forward.network.f2", gelu(layer.linear("feed_forward.network.f1", row)))


def swiglu_network(layer: Layer, row: Tensor) -> Tensor:
    w1, w3 = layer.linear("feed_forward.network.f1", row).chunk(2)
    return layer.linear("feed_forward.network.f2", silu(w1) * w3)


def gpt_2(layer: Layer, x: Rows) -> Rows:
    """a = x + attention(norm(x)); a + ffn(norm(a))."""
    out = []
    normed = [layer.layer_norm("attention.residual.norm", row, 1e-5) for row in x]
    for row, attended in zip(x, attention_of(layer, normed), strict=True):
        a = row + attended
        out.append(a + gelu_network(layer, layer.layer_norm("feed_forward.residual.norm", a, 1e-5)))
    return out


def gpt_1(layer: Layer, x: Rows) -> Rows:
    """a = norm(x + attention(x)); norm(a + ffn(a))."""
    out = []
    for row, attended in zip(x, attention_of(layer, x), strict=True):
        a = layer.layer_norm("attention.residual.norm", row + attended, 1e-5)
        out.append(layer.layer_norm("feed_forward.residual.norm", a + gelu_network(layer, a), 1e-5))
    return out


def llama(layer: Layer, x: Rows) -> Rows:
    """a = x + attention(rms(x)) with rotated queries and keys; a + swiglu(rms(a))."""
    out = []
    normed = [layer.rms_norm("attention.residual.norm", row, 1e-5) for row in x]
    for row, attended in zip(x, attention_of(layer, normed), strict=True):
        a = row + attended
        out.append(a + swiglu_network(layer, layer.rms_norm("feed_forward.residual.norm", a, 1e-5)))
    return out


def ligr(layer: Layer, x: Rows) -> Rows:
    """a = x + sigmoid(G1 x) attention(norm(x)); a + sigmoid(G2 a) swiglu(norm(a))."""
    out = []
    normed = [layer.layer_norm("attention.residual.norm", row, 1e-5) for row in x]
    for row, attended in zip(x, attention_of(layer, normed), strict=True):
        a = row + torch.sigmoid(layer.linear("attention.residual.gate", row)) * attended
        hidden = swiglu_network(layer, layer.layer_norm("feed_forward.residual.norm", a, 1e-5))
        out.append(a + torch.sigmoid(layer.linear("feed_forward.residual.gate", a)) * hidden)
    return out


def fuxi(layer: Layer, x: Rows) -> Rows:
    """z = rms([P V, T V, SiLU(Q K^T) V / N]) * U; a = W0 z + b0 + x; a + swiglu(rms(a)).

    Of each head first P V, then T V, then the semantic channel.
    """
    config = layer.config
    qk, v_dim = config.heads * config.query_dim, config.heads * config.value_dim
    position, time = layer.get("attention.bias.position"), layer.get("attention.bias.time")
    channels = 1 + (position is not None) + (time is not None)
    u, v, q, k = [], [], [], []
    for row in x:
        hidden = silu(layer.linear("attention.f1", rms(row, 1e-6)))
        for part, piece in zip((u, v, q, k), hidden.split([channels * v_dim, v_dim, qk, qk]), strict=True):
            part.append(piece)
    values, queries, keys = layer.heads(v), layer.heads(q), layer.heads(k)
    story = layer.story
    local = config.attention_window, config.attention_global
    added = layer.apart("attention.", "silu")
    rules = Rules(len(x), *local, context=story.context, candidates=story.candidates)
    out = []
    for i, row in enumerate(x):
        seen = [j for j in range(len(x)) if rules.sees(i, j)]
        pieces = []
        for head in range(config.heads):
            if position is not None:
                pieces.append(
                    sum(
                        position[max(0, rules.logical_position(i) - rules.logical_position(j))]
                        * values[j, head]
                        for j in seen
                    )
                )
            if time is not None:
                apart = [abs(story.query_time[i] - story.timestamp[j]) for j in seen]
                places = [min(128, int(math.log(max(1, seconds)) / 0.301)) for seconds in apart]
                pieces.append(
                    sum(time[place] * values[j, head] for j, place in zip(seen, places, strict=True))
                )
            scores = [(queries[i, head] * keys[j, head]).sum() for j in seen]
            if added is not None:
                scores = [score + added[head, i, j] for score, j in zip(scores, seen, strict=True)]
            weighted = [silu(score) * values[j, head] for j, score in zip(seen, scores, strict=True)]
            pieces.append(sum(weighted) / N)
        a = layer.linear("attention.f2", rms(torch.cat(pieces), 1e-6) * u[i]) + row
        out.append(a + swiglu_network(layer, rms(a, 1e-6)))
    return out


FORMULAS: dict[str, Callable[[Layer, Rows], Rows]] = {
    "hstu": hstu,
    "sasrec": sasrec,
    "sasrec pre_norm": sasrec_pre_norm,
    "gpt": gpt_2,
    "gpt pre_norm": gpt_2,
    "gpt post_norm": gpt_1,
    "llama": llama,
    "fuxi": fuxi,
    "ligr": ligr,
}
"""By `kind`, the kind as published; by `kind residual` where `model.residual` is set to another one."""


def last_norm(config: BackboneConfig, parameters: Parameters, row: Tensor) -> Tensor:
    """SASRec, GPT-2 and Llama end with a norm."""
    if config.kind == "llama":
        return rms(row, 1e-5) * parameters["norm.weight"]
    if config.kind == "sasrec" or (config.kind == "gpt" and config.residual != "post_norm"):
        eps = 1e-8 if config.kind == "sasrec" else 1e-5
        return norm(row, eps) * parameters["norm.weight"] + parameters["norm.bias"]
    return row


def of_one_sequence(rows: Rows, parameters: Parameters, config: BackboneConfig, story: Story) -> Rows:
    """The outputs of the tokens of one sequence."""
    key = f"{config.kind} {config.residual}" if config.residual else config.kind
    if key not in FORMULAS:
        raise KeyError(f"tests/models/backbones/backbone_oracle.py has no formula '{key}' in FORMULAS")
    formula = FORMULAS[key]
    for number in range(config.blocks if rows else 0):
        rows = formula(Layer(parameters, f"blocks.{number}", config, story), rows)
    return [last_norm(config, parameters, row) for row in rows]


def oracle(x: Tensor, parameters: Parameters, config: BackboneConfig, batch: PackedBatch) -> Tensor:
    """The whole backbone, sequence by sequence; one token an event."""
    out = []
    for start, stop in zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True):
        times = batch.query_time[start:stop].tolist(), batch.timestamp[start:stop].tolist()
        story = Story(*times, position=list(range(stop - start)))
        out += of_one_sequence(list(x[start:stop]), parameters, config, story)
    return torch.stack(out)
