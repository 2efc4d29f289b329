"""The generator: sizes, planted statistics on a fixed seed, and the files it writes."""

from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.spec.dataset_spec import load_spec
from behavior.synthetic import SyntheticConfig, SyntheticLog, generate


@pytest.fixture(scope="module")
def log() -> SyntheticLog:
    return generate(SyntheticConfig(users=2000, items=400, interests=20, domains=2, seed=7))


def within_chance(successes: int, trials: int, share: float) -> bool:
    """Whether a binomial count lies within 4 standard deviations."""
    return abs(successes - trials * share) < 4 * math.sqrt(trials * share * (1 - share))


def test_the_same_seed_gives_the_same_log(log: SyntheticLog) -> None:
    again = generate(log.config)
    assert (again.events, again.items, again.users) == (log.events, log.items, log.users)
    other = generate(log.config.model_copy(update={"seed": 8}))
    assert other.events != log.events


def test_sizes(log: SyntheticLog) -> None:
    config, lengths = log.config, np.diff(log.trace.offsets)
    assert log.events.num_rows == lengths.sum() == len(log.trace.interest)
    assert log.events.column_names == ["user", "item", "behavior", "timestamp", "domain"]
    assert (log.items.num_rows, log.users.num_rows) == (400, 2000)
    assert len(set(log.items["item"].to_pylist())) == 400
    assert len(set(log.users["user"].to_pylist())) == 2000
    assert lengths.min() >= config.min_events
    assert lengths.max() <= config.max_events
    # Log-normal: its mean is set, its median is lower by exp(sigma^2 / 2), its tail is long.
    assert lengths.mean() == pytest.approx(50, rel=0.06)
    assert np.median(lengths) == pytest.approx(50 * math.exp(-(0.6**2) / 2), rel=0.06)
    assert lengths.max() > 4 * np.median(lengths)


def test_tables_show_the_trace(log: SyntheticLog) -> None:
    users, items = log.users["user"].to_numpy(), log.items["item"].to_numpy(zero_copy_only=False)
    rows = log.events.slice(0, 500).to_pylist()
    user = np.repeat(np.arange(2000), np.diff(log.trace.offsets))
    for index, row in enumerate(rows):
        assert row["user"] == users[user[index]]
        assert row["item"] == items[log.trace.item[index]]
        assert row["behavior"] == ("view", "cart", "buy")[log.trace.behavior[index]]
        assert row["timestamp"] == log.trace.timestamp[index]


def test_behavior_shares_and_ties(log: SyntheticLog) -> None:
    events, trace = log.events.num_rows, log.trace
    for step, share in enumerate(log.config.behavior_shares):
        assert within_chance(int((trace.behavior == step).sum()), events, share)
    begins = set(trace.offsets.tolist())
    within = [t for t in range(events) if t not in begins and not trace.new_session[t]]
    ties = sum(trace.timestamp[t] == trace.timestamp[t - 1] for t in within)
    assert within_chance(int(ties), len(within), log.config.ties)


def test_time_tells_the_sessions_and_interests_change_there(log: SyntheticLog) -> None:
    trace, config = log.trace, log.config
    follows = np.ones(log.events.num_rows, bool)
    follows[trace.offsets[:-1]] = False
    event = np.flatnonzero(follows)
    gap = trace.timestamp[event] - trace.timestamp[event - 1]
    assert gap.min() >= 0
    is_break = trace.new_session[event]
    np.testing.assert_array_equal(gap >= config.session_gap, is_break)
    assert within_chance(int(is_break.sum()), len(event), config.session_break)
    changed = trace.interest[event] != trace.interest[event - 1]
    assert within_chance(int(changed[is_break].sum()), int(is_break.sum()), config.switch_at_break)
    assert within_chance(int(changed[~is_break].sum()), int((~is_break).sum()), config.switch_in_session)


def test_users_keep_to_the_interests_of_their_persona(log: SyntheticLog) -> None:
    for user in range(200):
        begin, end = log.trace.offsets[user : user + 2]
        allowed = log.world.persona_interests[log.trace.persona[user]]
        assert set(log.trace.interest[begin:end]) <= set(allowed)


def test_buys_come_down_the_funnel_shortly_after(log: SyntheticLog) -> None:
    trace, config = log.trace, log.config
    with_open, taken = 0, 0
    for user in range(config.users):
        session = 0
        for t in range(*trace.offsets[user : user + 2]):
            session = t if trace.new_session[t] else session
            if trace.behavior[t] != 2:
                continue
            recent = range(max(session, t - config.funnel_window), t)
            last = {trace.item[j]: trace.behavior[j] for j in recent}
            carted = {item for item, behavior in last.items() if behavior == 1}
            with_open += bool(carted)
            taken += trace.item[t] in carted
    # Fresh items, too, are in the cart at times: the funnel's share is the least.
    assert config.funnel < taken / with_open < config.funnel + 0.15
    assert 0.3 < with_open / (trace.behavior == 2).sum() < 0.9


def test_popularity_has_a_head_and_a_tail(log: SyntheticLog) -> None:
    counts = np.sort(np.bincount(log.trace.item, minlength=400))[::-1]
    assert counts[:40].sum() > 0.4 * counts.sum()
    assert counts[200:].sum() < 0.2 * counts.sum()
    # Within an interest, Zipf: rank r of the planted probabilities against rank 1 is r ** -zipf.
    first, last = log.world.interest_offsets[:2]
    planted = log.world.interest_probability[first:last]
    np.testing.assert_allclose(planted / planted[0], np.arange(1, last + 1) ** -log.config.zipf)


def test_fresh_items_follow_the_interest(log: SyntheticLog) -> None:
    """Views of a session's first event: noise or the interest, in the planted proportions."""
    trace, world, config = log.trace, log.world, log.config
    interest = 3
    chosen = trace.new_session & (trace.behavior == 0) & (trace.interest == interest)
    counts = np.bincount(trace.item[chosen], minlength=config.items)
    first, last = world.interest_offsets[interest : interest + 2]
    expected = config.noise * world.popularity
    expected[world.interest_items[first:last]] += (1 - config.noise) * world.interest_probability[first:last]
    expected *= counts.sum()
    often = expected > 5
    assert often.sum() > 10
    chi_square = ((counts - expected)[often] ** 2 / expected[often]).sum()
    assert chi_square < often.sum() + 4 * math.sqrt(2 * often.sum())


def test_features_explain_the_interests(log: SyntheticLog) -> None:
    world, config = log.world, log.config
    main = world.item_interests[world.item_offsets[:-1]]
    rows = log.items.to_pylist()
    known = [i for i in range(400) if rows[i]["category"] is not None]
    hits = sum(rows[i]["category"] == f"category-{main[i] + 1:02d}" for i in known)
    share = 1 - config.feature_noise * (1 - 1 / config.interests)
    assert within_chance(hits, len(known), share)
    assert within_chance(400 - len(known), 400, config.missing)

    def overlap(a: int, b: int) -> int:
        return len(set(rows[a]["tags"] or []) & set(rows[b]["tags"] or []))

    same = [(a, b) for a, b in itertools.combinations(range(400), 2) if main[a] == main[b]]
    other = [(a, b) for a, b in itertools.combinations(range(400), 2) if main[a] != main[b]]
    mean_same, mean_other = (np.mean([overlap(*pair) for pair in pairs]) for pairs in (same, other))
    assert mean_same > 2 * mean_other

    priced = [i for i in range(400) if rows[i]["price"] is not None]
    price = np.log([rows[i]["price"] for i in priced])
    within = sum(price[main[priced] == k].var() * (main[priced] == k).sum() for k in range(config.interests))
    assert within / len(priced) < 0.3 * price.var()


def test_titles_name_the_interests_and_no_two_are_equal(log: SyntheticLog) -> None:
    world, titles = log.world, log.items["title"].to_pylist()
    assert len(set(titles)) == 400
    for one, other in itertools.combinations(range(60), 2):
        interests = [
            world.item_interests[world.item_offsets[item] : world.item_offsets[item] + 2].tolist()
            for item in (one, other)
        ]
        words = [titles[item].split()[:2] for item in (one, other)]
        assert (words[0][1] == words[1][1]) == (interests[0][0] == interests[1][0])
        assert (words[0][0] == words[1][0]) == (interests[0][1] == interests[1][1])
    alone = generate(SyntheticConfig(users=2, items=90, interests=90, interests_per_item=1))
    assert "Camping tent" in alone.items["title"].to_pylist()
    assert "Camping tent no. 3" in alone.items["title"].to_pylist()


def test_segments_hint_at_personas(log: SyntheticLog) -> None:
    segment, persona, config = log.trace.segment, log.trace.persona, log.config
    known = segment >= 0
    share = 1 - config.feature_noise * (1 - 1 / config.personas)
    assert within_chance(int((segment == persona)[known].sum()), int(known.sum()), share)
    assert within_chance(int((~known).sum()), 2000, config.missing)
    assert log.users["segment"].null_count == (~known).sum()


def test_an_item_belongs_to_one_domain_with_all_its_interests(log: SyntheticLog) -> None:
    pairs = set(zip(log.events["item"].to_pylist(), log.events["domain"].to_pylist(), strict=True))
    assert len(pairs) == len({item for item, _ in pairs})
    assert {domain for _, domain in pairs} == {"domain-1", "domain-2"}
    for item in range(400):
        interests = log.world.item_interests[slice(*log.world.item_offsets[item : item + 2])]
        assert len(set(interests.tolist())) == 2
        assert set(interests % 2) == {log.world.item_domain[item]}


@pytest.mark.parametrize("domains", [1, 2])
def test_written_files_hold_the_log_in_time_order(tmp_path: Path, domains: int) -> None:
    log = generate(SyntheticConfig(users=80, items=60, interests=6, domains=domains, ties=0.5, missing=0.1))
    path = log.write(tmp_path / "raw", event_files=3)
    files = sorted((tmp_path / "raw").glob("events-*.csv.gz"))
    assert len(files) == 3
    with gzip.open(files[0], "rt") as lines:
        assert lines.readline().replace('"', "").strip() == ",".join(log.events.column_names)
    events = pa.concat_tables([pacsv.read_csv(file) for file in files])
    times = events["timestamp"].to_numpy()
    assert (np.diff(times) >= 0).all()
    # A stable sort by user, in the order of the files, gives back every user's order, ties included.
    for user in log.users["user"].to_pylist():
        written = events.filter(pa.compute.equal(events["user"], user)).to_pylist()
        assert written == log.events.filter(pa.compute.equal(log.events["user"], user)).to_pylist()

    text = pacsv.ConvertOptions(strings_can_be_null=True)
    items = pacsv.read_csv(tmp_path / "raw" / "items.csv", convert_options=text).to_pylist()
    for row, original in zip(items, log.items.to_pylist(), strict=True):
        tags = None if row["tags"] is None else row["tags"].split("|")
        assert {**row, "tags": tags} == original
    users = pacsv.read_csv(tmp_path / "raw" / "users.csv", convert_options=text)
    assert users.to_pylist() == log.users.to_pylist()

    spec, folder = load_spec(path)
    assert folder == str(tmp_path / "raw")
    assert spec.behavior_names == ["view", "cart", "buy"]
    assert spec.target_names == ["buy"]
    assert spec.domain_names == ([] if domains == 1 else ["domain-1", "domain-2"])
    source = spec.events[0]
    named = {*source.columns.model_dump(exclude_none=True).values(), source.behavior.column}
    assert named == set(log.events.column_names)


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    tiny = generate(SyntheticConfig(users=5, items=50))
    with pytest.raises(UserError, match="not empty"):
        tiny.write(tmp_path)
    with pytest.raises(UserError, match="0 event files"):
        tiny.write(tmp_path / "new", event_files=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"behavior_shares": [0.5, 0.5]}, "one share for each"),
        ({"behavior_shares": [0.5, 0.4, 0.2]}, "sum to 1"),
        ({"behaviors": ["view", "view", "buy"]}, "twice"),
        ({"noise": 0.7, "follow": 0.4}, "noise \\+ follow"),
        ({"interests": 3}, "interests_per_persona"),
        ({"domains": 50}, "domains"),
        ({"items": 10}, "not be more than items"),
        ({"min_events": 9, "max_events": 8}, "min_events"),
        ({"user": 5}, "did you mean 'users'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(SyntheticConfig, settings, where="--set")
