"""Every kind builds and trains with every setting, or says why not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from behavior.config import parse_config
from behavior.errors import UserError
from models.backbones import BACKBONES, BackboneConfig, build_backbone, check_time_bias
from models.backbones.preset import Preset
from models.config import load_config
from models.data.batch import PackedBatch
from models.inputs.tokens import Tokens
from models.layers.feed_forward import FeedForward
from models.layers.norm import make_norm
from models.layers.relative_bias import RelativeBiasTables
from models.layers.residual import Residual
from tests.models.tokens import tokens_of

N = 12


def make_tokens() -> Tokens:
    """Two sequences; from one event to the next goes a minute, an hour, a day, ..."""
    steps = [0, 60, 3600, 86_400, 10**6, 10**7, 3 * 10**7]
    times = torch.tensor(steps).cumsum(0).tolist()
    return tokens_of(PackedBatch.from_lists([[1] * 7, [2] * 3], timestamps=[times, times[:3]]))


def count(**settings: Any) -> int:
    with torch.device("meta"):  # shapes without numbers
        backbone = build_backbone(BackboneConfig(**settings), max_length=200)
    return sum(parameter.numel() for parameter in backbone.parameters())


def step(backbone: nn.Module, dim: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss, and the gradient of the input and of every parameter."""
    torch.manual_seed(seed)
    x = torch.randn(10, dim, requires_grad=True)
    loss = (backbone(x, make_tokens()) * torch.randn(10, dim)).sum()
    named = {"x": x, **dict(backbone.named_parameters())}
    return loss.detach(), dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def train_a_step(config: BackboneConfig) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(config, max_length=N)
    loss, gradients = step(backbone, config.dim)
    for name, gradient in gradients.items():
        assert gradient.isfinite().all(), name
        assert gradient.any(), f"{name} has no gradient"
    with torch.no_grad():
        for parameter, gradient in zip(backbone.parameters(), list(gradients.values())[1:], strict=True):
            parameter -= 1e-4 * gradient
    assert not torch.equal(step(backbone, config.dim)[0], loss)


VARIATIONS: list[dict[str, Any]] = [
    {},
    *({"bias": bias} for bias in ("none", "position", "time", "both", "rope", "decay")),
    {"bias": "both", "bias_tables": "per_head"},
    {"bias": "decay", "bias_tables": "per_head", "decay": "exponential"},
    *({"activation": activation} for activation in ("silu", "softmax")),
    *({"gate": on} for on in (False, True)),
    *({"pointwise": on} for on in (False, True)),
    {"residual": "hstu", "feed_forward": "none"},
    *({"residual": residual} for residual in ("pre_norm", "post_norm", "gated", "sasrec")),
    *({"norm": norm} for norm in ("layer", "layer_without_affine", "rms", "rms_without_affine", "none")),
    *({"attention_norm": norm} for norm in ("layer", "rms", "none")),
    {"final_norm": True},
    *({"feed_forward": kind, "residual": "pre_norm"} for kind in ("relu", "gelu", "swiglu", "multi_stage")),
    {"feed_forward": "swiglu", "feed_forward_width": 5, "residual": "pre_norm"},
    {"heads": 4, "qk_dim": 6},
    {"attention_dropout": 0.5, "hidden_dropout": 0.5},
    *({"recompute": mode} for mode in ("pointwise", "block")),
]


def named(variation: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in variation.items())


def varied(kind: str, variation: dict[str, Any]) -> BackboneConfig:
    """A kind with other settings; skips the test where these contradict the kind, which is to say why."""
    try:
        return BackboneConfig(**{"kind": kind, "dim": 8, "heads": 2, **variation})
    except ValueError as refused:
        if not variation:
            raise
        pytest.skip(str(refused))


@pytest.mark.parametrize("variation", VARIATIONS, ids=named)
@pytest.mark.parametrize("kind", BACKBONES)
def test_every_kind_takes_every_setting_and_all_its_parameters_learn(
    kind: Any, variation: dict[str, Any]
) -> None:
    train_a_step(varied(kind, variation))


@pytest.mark.parametrize("variation", VARIATIONS, ids=named)
def test_no_setting_is_refused_by_all_kinds(variation: dict[str, Any]) -> None:
    """Most kinds take it: what `varied` skips is the exception."""
    taken = []
    for kind in BACKBONES:
        with suppress(ValueError):
            taken.append(BackboneConfig(**{"kind": kind, "dim": 8, "heads": 2, **variation}))
    assert len(taken) > len(BACKBONES) / 2


def preset(**changes: Any) -> Preset:
    """GPT-2's, with changes."""
    return replace(BACKBONES["gpt"], **changes)


def test_a_post_norm_kind_has_no_final_norm_and_takes_all_that_fits_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the kind is decides, not what is set: on its final norm, and on its projections."""
    monkeypatch.setitem(BACKBONES, "gpt-1", preset(residual="post_norm", final_norm=False))
    monkeypatch.setitem(BACKBONES, "gpt-sasrec", preset(residual="sasrec", output_projection=False))
    skipped = []
    for variation in VARIATIONS:
        try:
            build_backbone(varied("gpt-1", variation), max_length=N)
        except pytest.skip.Exception:
            skipped.append(variation)
    assert skipped == [{"norm": "none"}]
    published = build_backbone(BackboneConfig(kind="gpt-1", dim=8), max_length=N)
    variant = build_backbone(BackboneConfig(kind="gpt", residual="post_norm", dim=8), max_length=N)
    assert published.state_dict().keys() == variant.state_dict().keys()
    assert BackboneConfig(kind="gpt-1", residual="pre_norm", final_norm=True).has_final_norm
    assert BackboneConfig(kind="gpt-sasrec").block_settings(N).separate_projections


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual": "postnorm"}, r"Preset\.residual is 'postnorm', and must be one of .*post_norm"),
        ({"norm": "batch"}, r"Preset\.norm is 'batch', and must be one of layer, "),
        ({"attention_norm": "None"}, r"Preset\.attention_norm is 'None'"),
        ({"bias": "times"}, r"Preset\.bias is 'times', and must be one of both, time, "),
        ({"activation": "Softmax"}, r"Preset\.activation is 'Softmax', and must be one of silu, softmax"),
        ({"feed_forward": "swiGLU"}, r"Preset\.feed_forward is 'swiGLU'"),
        ({"dropout": {"hiden"}}, r"Preset\.dropout is 'hiden', and must be one of attention, hidden, "),
        ({"dropout": "hidden"}, r"Preset\.dropout is 'hidden', and must be a set"),
        ({"residual": "post_norm"}, "blocks end with a norm: leave final_norm out"),
    ],
)
def test_a_preset_with_a_misspelt_choice_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset(**changes)


def test_parts_that_there_are_not_are_errors() -> None:
    settings = BackboneConfig(kind="gpt", dim=8).block_settings(N)
    with pytest.raises(ValueError, match=r"BlockSettings\.residual is 'postnorm'"):
        replace(settings, residual="postnorm")
    with pytest.raises(ValueError, match="no norm 'batch'"):
        make_norm("batch", 8, 1e-5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="residual is 'postnorm'"):
        Residual("postnorm", 8, "layer", 1e-5, 0.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bias is 'times'"):
        RelativeBiasTables("times", N)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="decay is 'powers'"):
        RelativeBiasTables("decay", N, decay="powers")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="feed-forward is 'relus'"):
        FeedForward("relus", 8, 8, 0.0, bias=True, std=None, output_std=None)  # type: ignore[arg-type]


# The published ablations of HSTU and SASRec (arXiv 2412.00714), each a setting on a kind.
ABLATIONS = {
    "hstu": [
        *(f"bias={bias}" for bias in ("both", "position", "time", "rope", "none")),
        "activation=softmax",
        "gate=false",
        "pointwise=false",
        "gate=false pointwise=false",
    ],
    "sasrec": ["bias=both", "residual=pre_norm", "bias=both residual=pre_norm"],
}


@pytest.mark.parametrize(("kind", "setting"), [(k, s) for k, found in ABLATIONS.items() for s in found])
def test_published_ablations_are_settings(kind: str, setting: str) -> None:
    sets = [f"model.{part}" for part in setting.split()]
    config = load_config(f"ml-1m/{kind}", [*sets, "model.dim=8"]).model
    train_a_step(config)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # A block of HSTU: f1 d x 4d, f2 d x d + d, tables.
        ({"kind": "hstu"}, 2 * (4 * 2500 + 2500 + 50 + 200 + 129)),
        ({"kind": "hstu", "blocks": 8, "heads": 2}, 8 * (4 * 2500 + 2500 + 50 + 200 + 129)),
        ({"kind": "hstu", "heads": 2, "bias_tables": "per_head"}, 2 * (5 * 2500 + 50 + 2 * 329)),
        ({"kind": "hstu", "gate": False, "bias": "none"}, 2 * (4 * 2500 + 50)),
        # q, k, v and two layers of the feed-forward, biases but for k's, two norms; a last norm.
        ({"kind": "sasrec"}, 2 * (5 * 2500 + 4 * 50 + 2 * 100) + 100),
        # GPT-2: 12 d^2 + 13 d a block, of which the d of k's bias do nothing; 2 d at the end.
        ({"kind": "gpt"}, 2 * (12 * 2500 + 12 * 50) + 100),
        ({"kind": "gpt", "blocks": 12, "dim": 768, "heads": 12}, 12 * (7_087_872 - 768) + 1536),
        ({"kind": "gpt", "residual": "post_norm"}, 2 * (12 * 2500 + 12 * 50)),
        # Llama: 4 d^2 + 3 d w + 2 d a block, w = 8/3 d rounded up to 136.
        ({"kind": "llama"}, 2 * (4 * 2500 + 3 * 50 * 136 + 100) + 50),
        # A 7B block has w = 11008 instead of 10928.
        (
            {"kind": "llama", "blocks": 1, "dim": 4096, "heads": 32, "feed_forward_width": 11008},
            202_383_360 + 4096,
        ),
        # FuXi: f1 d x 6d, W0 3d x d + d, three d x d, tables.
        ({"kind": "fuxi"}, 2 * (6 * 2500 + 3 * 2500 + 50 + 3 * 2500 + 329)),
        # LiGR: 4 d^2 + 3 d attention, 2 (d^2 + d) gates, 3 d 4 d, two norms.
        ({"kind": "ligr"}, 2 * (4 * 2500 + 150 + 2 * 2550 + 12 * 2500 + 200)),
    ],
)
def test_parameter_counts_are_those_of_the_formulas(settings: dict[str, Any], expected: int) -> None:
    assert count(**settings) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("hstu", {"attention": 0.2, "hidden": 0.0, "feed_forward": 0.2}),
        ("sasrec", {"attention": 0.0, "hidden": 0.2, "feed_forward": 0.2}),
        ("gpt", {"attention": 0.0, "hidden": 0.2, "feed_forward": 0.0}),
        ("llama", {"attention": 0.0, "hidden": 0.2, "feed_forward": 0.0}),
        ("fuxi", {"attention": 0.2, "hidden": 0.0, "feed_forward": 0.2}),
        ("ligr", {"attention": 0.0, "hidden": 0.2, "feed_forward": 0.2}),
    ],
)
def test_dropout_falls_where_the_kind_has_it_unless_a_place_is_set(
    kind: Any, expected: dict[str, float]
) -> None:
    settings = BackboneConfig(kind=kind).block_settings(N)
    assert {place: getattr(settings, f"{place}_dropout") for place in expected} == expected
    for place in expected:
        config = BackboneConfig(
            kind=kind, feed_forward="swiglu", residual="pre_norm", **{f"{place}_dropout": 0.4}
        )
        assert getattr(config.block_settings(N), f"{place}_dropout") == 0.4
    assert BackboneConfig(kind=kind).input_dropout_rate == 0.2
    assert BackboneConfig(kind=kind, input_dropout=0.0).input_dropout_rate == 0.0


def test_kinds_are_as_published_unless_set() -> None:
    biases = {
        "hstu": "both",
        "sasrec": "none",
        "gpt": "none",
        "llama": "rope",
        "fuxi": "both",
        "ligr": "none",
    }
    assert {kind: BackboneConfig(kind=kind).relative_bias for kind in biases} == biases
    assert BackboneConfig(kind="sasrec", bias="time").relative_bias == "time"
    positions = {kind: BackboneConfig(kind=kind).has_learned_positions for kind in biases}
    assert [kind for kind, on in positions.items() if not on] == ["llama"]
    assert BackboneConfig(kind="llama", learned_positions=True).has_learned_positions
    scaled = [kind for kind in biases if BackboneConfig(kind=kind).scales_input]
    assert scaled == ["hstu", "sasrec", "fuxi"]
    assert not BackboneConfig(kind="hstu", scale_input=False).scales_input


def test_scores_are_scaled_as_the_activation_wants() -> None:
    hstu = BackboneConfig(kind="hstu", dim=64, heads=4)
    assert hstu.block_settings(200).scales == (1.0, 1 / 200)
    softmax = BackboneConfig(kind="hstu", dim=64, heads=4, activation="softmax")
    assert softmax.block_settings(200).scales == (0.25, 1.0)
    assert BackboneConfig(kind="llama", activation="silu").block_settings(100).scales == (1.0, 0.01)


def test_widths_of_the_feed_forward_go_with_its_kind() -> None:
    def width(**settings: Any) -> int:
        return BackboneConfig(dim=48, **settings).block_settings(N).feed_forward_width

    assert [width(kind=kind) for kind in ("sasrec", "gpt", "llama", "fuxi", "ligr")] == [
        48,
        192,
        128,
        48,
        192,
    ]
    assert width(kind="llama", feed_forward="gelu") == 192
    assert width(kind="ligr", feed_forward="relu") == 192
    assert width(kind="llama", feed_forward_width=7) == 7


@pytest.mark.parametrize(
    ("bias", "instead"),
    [(None, "position"), ("both", "position"), ("time", "none"), ("decay", "none")],
)
def test_a_time_bias_without_times_names_the_setting(bias: Any, instead: str) -> None:
    config = BackboneConfig(kind="hstu", bias=bias)
    with pytest.raises(UserError, match="needs timestamps") as caught:
        check_time_bias(config, has_time=False)
    assert caught.value.fix == f"--set model.bias={instead}"
    check_time_bias(config, has_time=True)


@pytest.mark.parametrize("bias", ["position", "rope", "none"])
def test_other_biases_need_no_times(bias: Any) -> None:
    check_time_bias(BackboneConfig(kind="hstu", bias=bias), has_time=False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 50, "heads": 4}, "not a multiple of heads"),
        ({"kind": "sasrec", "dim": 8, "heads": 2, "v_dim": 3}, "heads \\* v_dim must be dim"),
        ({"kind": "llama", "dim": 50, "heads": 2}, "25 wide a head, which is odd: set qk_dim"),
        ({"kind": "llama", "bias_tables": "per_head"}, "bias 'rope' has no tables"),
        ({"decay": "power"}, "decay is power, and bias is 'both': set bias to decay"),
        ({"feed_forward": "swiglu"}, "feed_forward is swiglu: set residual to pre_norm"),
        ({"kind": "gpt", "residual": "hstu"}, "feed_forward is gelu: set residual to pre_norm"),
        ({"feed_forward_width": 8}, "feed_forward_width is set, and feed_forward is none"),
        ({"feed_forward_dropout": 0.1}, "feed_forward_dropout is set, and feed_forward is none"),
        ({"residual": "post_norm", "norm": "none"}, "post_norm needs a norm"),
        ({"norm": "none", "final_norm": True}, "final_norm is on, and norm is none"),
        ({"hidden_dropout": 1.0}, "'hidden_dropout'"),
        ({"block": 3}, "unknown key 'block'"),
        (
            {"kind": "bert"},
            "'kind': there is no backbone 'bert'",
        ),
    ],
)
def test_settings_that_do_not_fit_are_errors(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(BackboneConfig, values, where="test")


def test_an_unknown_kernel_is_an_error_when_the_backbone_is_built() -> None:
    with pytest.raises(UserError, match="no attention kernel 'flash'") as caught:
        build_backbone(BackboneConfig(attention="flash"), max_length=N)
    assert caught.value.where == "model.attention"
