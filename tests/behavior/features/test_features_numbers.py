"""Numeric features: standardized, logarithms, buckets."""

from __future__ import annotations

import itertools
import math
import pickle
import random
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.arrow.hashing import stable_hash
from behavior.features import fitter_of, priorities_of, restore
from behavior.features.moments import MomentsFitter
from behavior.features.quantiles import SampleFitter
from behavior.shards.manifest import FeatureEntry
from behavior.spec.dataset_spec import Feature
from tests.behavior.features.feature_fits import encode, fit, merged_at_random, numbers_in, vocabulary_of
from tests.behavior.logs import few

numbers = st.one_of(st.none(), st.integers(-50, 50).map(float))
weighted_rows = st.lists(st.tuples(numbers, st.integers(0, 5)), max_size=10)


def numeric(**settings: Any) -> Feature:
    return Feature(name="x", kind="numeric", **settings)


def columns(rows: list[tuple[float | None, int]]) -> tuple[pa.Array, np.ndarray]:
    return pa.array([value for value, _ in rows], pa.float64()), np.array([w for _, w in rows], np.int64)


@few
@given(st.lists(st.tuples(numbers, st.integers(0, 5)), min_size=1, max_size=8), st.booleans())
def test_numbers_are_standardized_by_training_events(
    rows: list[tuple[float | None, int]], as_text: bool
) -> None:
    ids, values = [f"i{n}" for n in range(len(rows))], [value for value, _ in rows]
    # The plain way: every training event of the item is one sample.
    samples = [value for value, times in rows if value is not None for _ in range(times)]
    mean = sum(samples) / len(samples) if samples else 0.0
    spread = math.sqrt(sum((s - mean) ** 2 for s in samples) / len(samples)) if samples else 0.0
    raw = (
        ["" if value is None else str(value) for value in values]
        if as_text
        else pa.array(values, pa.float64())
    )
    encoded = encode(vocabulary_of(ids, [times for _, times in rows]), {"id": ids, "x": raw}, numeric())
    expected = [math.nan if value is None else (value - mean) / (spread or 1) for value in values]
    np.testing.assert_allclose(encoded.table.column("x").to_numpy(), expected, rtol=1e-5, atol=1e-5)
    assert encoded.table.schema.field("x").type == pa.float32()
    assert encoded.entries[0].mean == pytest.approx(mean)
    assert encoded.entries[0].deviation == pytest.approx(spread or 1)


def test_what_is_no_finite_number_is_missing() -> None:
    raw = {"id": list("abcdef"), "x": ["1", "3", "big", "inf", "nan", ""]}
    got = encode(vocabulary_of(list("abcdef")), raw, numeric()).table.column("x")
    np.testing.assert_allclose(got, [-1, 1, *[math.nan] * 4])


def test_equal_numbers_become_zero_in_a_log_of_billions_too() -> None:
    # Their mean is off by a rounding there; that must not count as the spread.
    ids = [f"i{n}" for n in range(30)]
    for seed in range(20):
        train_counts = np.random.default_rng(seed).integers(10**9, 10**10, 30).tolist()
        got = encode(vocabulary_of(ids, train_counts), {"id": ids, "x": ["0.1"] * 30}, numeric())
        np.testing.assert_allclose(got.table.column("x"), np.zeros(30), atol=1e-6)


@few
@given(st.lists(weighted_rows, max_size=5), st.randoms())
def test_moments_merge_in_any_order(
    parts: list[list[tuple[float | None, int]]], shuffle: random.Random
) -> None:
    fitter = fitter_of(numeric(), 1)
    assert isinstance(fitter, MomentsFitter)
    states = [fitter.add(fitter.create(), *columns(part)) for part in parts]
    merged = merged_at_random(fitter, states, shuffle)
    whole = fitter.add(fitter.create(), *columns([row for part in parts for row in part]))
    assert merged.count == whole.count
    assert merged.mean == pytest.approx(whole.mean, abs=1e-12)
    assert merged.squares == pytest.approx(whole.squares, rel=1e-12, abs=1e-9)
    encoder = fitter.finish(merged)
    assert pickle.loads(pickle.dumps(encoder)) == encoder
    assert restore(fitter.feature, encoder.entry) == encoder


def test_a_small_spread_around_a_large_mean_is_not_lost() -> None:
    """A sum of squares would lose it: 1e15 has no room for it."""
    fitter = fitter_of(numeric(), 1)
    parts = [pa.array([2.0**23 + n, 2.0**23 + n + 1]) for n in range(100)]
    encoder = fit(fitter, *parts)
    every = np.concatenate([part.to_numpy() for part in parts])
    assert encoder.entry.mean == pytest.approx(every.mean(), rel=1e-15)
    assert encoder.entry.deviation == pytest.approx(every.std(), rel=1e-12)


@pytest.mark.parametrize(("center", "spread"), [(35.6, 1e-5), (1.7e9, 10.0)])
def test_numbers_keep_their_digits_until_they_are_stored(center: float, spread: float) -> None:
    """Latitudes within metres and times within seconds: float32 has as many digits as they have in common."""
    values = [center + spread * n for n in (-2, -1, 0, 1, 2)]
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / 5
    deviation = math.sqrt(sum((value - mean) ** 2 for value in exact) / 5)
    expected = [float(value - mean) / deviation for value in exact]
    for raw in (pa.array([repr(value) for value in values]), pa.array(values)):
        got = fit(fitter_of(numeric(), 1), raw).encode(raw)
        np.testing.assert_allclose(numbers_in(got), expected, rtol=1e-6, atol=1e-7)


def test_logarithms_and_plain_numbers() -> None:
    raw = pa.array(["0", "-1", "1e30", "x", None, "0.5"])
    values = [0.0, -1.0, 1e30, math.nan, math.nan, 0.5]
    logs = [math.copysign(math.log1p(abs(v)), v) for v in values]
    for transform, expected in (("log", logs), ("none", values)):
        feature = numeric(transform=transform)
        encoder = pickle.loads(pickle.dumps(fit(fitter_of(feature, 1), raw)))
        got = encoder.encode(raw)
        assert got.type == pa.float32()
        assert got.null_count == 0
        np.testing.assert_allclose(numbers_in(got), expected, rtol=1e-6)
        assert encoder.entry == FeatureEntry(name="x", kind="numeric", encoding=transform)
        assert restore(feature, encoder.entry) == encoder


@few
@given(
    st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=6, unique=True).map(sorted),
    st.lists(st.none() | st.floats(-12, 12, width=32), max_size=10),
)
def test_buckets_against_plain_python(boundaries: list[float], values: list[float | None]) -> None:
    values = values + boundaries  # the edges themselves belong above
    feature = numeric(transform="buckets", boundaries=boundaries)
    encoder = fit(fitter_of(feature, 1), pa.array(values, pa.float32()))
    got = encoder.encode(pa.array(values, pa.float32()))
    expected = [1 if v is None else 2 + sum(boundary <= v for boundary in boundaries) for v in values]
    assert got.type == pa.int32()
    assert got.to_pylist() == expected
    assert encoder.entry == FeatureEntry(
        name="x",
        kind="categorical",
        encoding="buckets",
        vocabulary_size=len(boundaries) + 3,
        boundaries=boundaries,
    )
    assert restore(feature, encoder.entry) == encoder == pickle.loads(pickle.dumps(encoder))


@pytest.mark.parametrize("values", [["0.7", "0.69"], [0.7, 0.69]])
def test_a_boundary_that_float32_does_not_hold(values: list[Any]) -> None:
    """0.7 as float32 is less than 0.7 as float64."""
    encoder = fit(fitter_of(numeric(transform="buckets", boundaries=[0.1, 0.7]), 1))
    assert encoder.encode(pa.array(values)).to_pylist() == [4, 3]


def quantiles(samples: list[float], buckets: int) -> list[float]:
    """The k-th boundary: the first of the sorted samples behind k / buckets of them."""
    samples = sorted(samples)
    if not samples:
        return []
    places = [math.floor(Fraction(k * len(samples), buckets)) for k in range(1, buckets)]
    return sorted({samples[place] for place in places})


@few
@given(st.lists(weighted_rows, max_size=4), st.integers(2, 6), st.randoms())
def test_quantiles_of_a_table_are_exact(
    parts: list[list[tuple[float | None, int]]], buckets: int, shuffle: random.Random
) -> None:
    feature = numeric(transform="buckets", quantiles=buckets)
    fitter = fitter_of(feature, 1)
    states = [fitter.add(fitter.create(), *columns(part)) for part in parts]
    encoder = fitter.finish(merged_at_random(fitter, states, shuffle))
    samples = [value for part in parts for value, times in part if value is not None for _ in range(times)]
    assert encoder.entry.boundaries == quantiles(samples, buckets)
    assert encoder.entry.vocabulary_size == 3 + len(quantiles(samples, buckets))
    assert restore(feature, encoder.entry) == encoder


def test_quantiles_make_buckets_of_equal_size() -> None:
    values = pa.array(np.random.default_rng(0).permutation(np.arange(100)).astype(np.float32))
    encoder = fit(fitter_of(numeric(transform="buckets", quantiles=4), 1), values)
    assert np.bincount(encoder.encode(values).to_numpy()).tolist() == [0, 0, 25, 25, 25, 25]
    assert encoder.entry.boundaries == [25, 50, 75]


def test_zeros_of_both_signs_are_one_value() -> None:
    fitter = fitter_of(numeric(transform="buckets", quantiles=2), 1)
    for order in ([0.0, -0.0], [-0.0, 0.0]):
        boundaries = fit(fitter, pa.array(order)).entry.boundaries
        assert [math.copysign(1, boundary) for boundary in boundaries or []] == [1]


drawn = st.tuples(numbers, st.booleans(), st.integers(0, 12))  # priorities that are equal at times


@few
@given(st.lists(st.lists(drawn, max_size=12), max_size=4), st.integers(1, 8), st.randoms())
def test_the_sample_does_not_depend_on_the_parts(
    parts: list[list[tuple[float | None, bool, int]]], size: int, shuffle: random.Random
) -> None:
    fitter = SampleFitter(numeric(transform="buckets", quantiles=3), size)
    states = [
        fitter.add(
            fitter.create(),
            pa.array([value for value, _, _ in part], pa.float32()),
            np.array([train for _, train, _ in part], bool),
            priorities=np.array([priority for _, _, priority in part], np.uint64),
        )
        for part in parts
    ]
    merged = merged_at_random(fitter, states, shuffle)
    every = [(p, value) for part in parts for value, train, p in part if train and value is not None]
    kept = sorted(every)[:size]
    assert list(zip(merged.priorities.tolist(), merged.values.tolist(), strict=True)) == kept
    assert fitter.finish(merged).entry.boundaries == quantiles([value for _, value in kept], 3)


def test_a_sample_comes_close_to_the_quantiles() -> None:
    """The shares of its buckets are off by half a point at most: three standard errors of 65,536 draws."""
    fitter = fitter_of(numeric(transform="buckets", quantiles=4), 1, sampled=True)
    lengths = np.full(2000, 100)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    users = pa.array(np.arange(len(lengths)))
    values = pa.array(np.random.default_rng(1).lognormal(size=offsets[-1]).astype(np.float32))
    state = fitter.add(fitter.create(), values, priorities=priorities_of(users, offsets))
    assert len(state.values) == 65_536
    shares = np.bincount(fitter.finish(state).encode(values).to_numpy())[2:] / len(values)
    np.testing.assert_allclose(shares, 0.25, atol=0.005)


def test_a_sample_needs_priorities() -> None:
    fitter = fitter_of(numeric(transform="buckets", quantiles=4), 1, sampled=True)
    with pytest.raises(ValueError, match="priorities"):
        fitter.add(fitter.create(), pa.array([1.0]))


@few
@given(st.lists(st.tuples(st.text("ab", max_size=2), st.integers(0, 4)), max_size=6))
def test_priorities_belong_to_user_and_position(sequences: list[tuple[str, int]]) -> None:
    users = pa.array([user for user, _ in sequences], pa.string())
    offsets = np.array([0, *itertools.accumulate(length for _, length in sequences)], np.int64)
    got = priorities_of(users, offsets)
    expected = []
    for user, length in sequences:
        for position in range(length):
            of_user, of_position = stable_hash(pa.array([user])), stable_hash(pa.array([position]))
            mixed = (int(of_user[0]) + int(of_position[0])) % 2**64
            expected.append(int(stable_hash(pa.array(np.array([mixed], np.uint64).view(np.int64)))[0]))
    assert got.tolist() == expected
    assert got.dtype == np.uint64
    if len(sequences) > 2:  # a part of the same table
        rest = priorities_of(users.slice(2), offsets[2:])
        assert rest.tolist() == expected[offsets[2] :]
