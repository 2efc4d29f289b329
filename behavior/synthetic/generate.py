"""Generate a synthetic log from its configuration."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from behavior.synthetic.config import SyntheticConfig
from behavior.synthetic.features import item_ids, item_table, user_ids, user_segments, user_table
from behavior.synthetic.kernels import Bools, draw_items
from behavior.synthetic.log import SyntheticLog, Trace
from behavior.synthetic.world import Ints, build_world

_DAY = 86_400


def generate(config: SyntheticConfig) -> SyntheticLog:
    """Generate a log; a pure function of its configuration."""
    # Separate streams: a longer log keeps the world and the features of a shorter one.
    world_rng, trace_rng, feature_rng = (np.random.default_rng([config.seed, stream]) for stream in range(3))
    world = build_world(config, world_rng)
    offsets = np.concatenate([[0], np.cumsum(_lengths(config, trace_rng))])
    timestamp, new_session = _clock(config, offsets, trace_rng)
    behavior = trace_rng.choice(len(config.behaviors), offsets[-1], p=world.behavior_shares)
    persona = trace_rng.integers(config.personas, size=config.users)
    interest, item = draw_items(world, trace_rng, offsets, behavior, new_session, persona)
    trace = Trace(
        offsets=offsets,
        item=item,
        behavior=behavior,
        timestamp=timestamp,
        new_session=new_session,
        interest=interest,
        persona=persona,
        segment=user_segments(config, persona, feature_rng),
    )
    items = item_ids(config, feature_rng)
    users = user_ids(config, feature_rng)
    return SyntheticLog(
        config=config,
        events=_event_table(config, trace, items, users, world.item_domain),
        items=item_table(config, world, items, feature_rng),
        users=user_table(trace.segment, users),
        world=world,
        trace=trace,
    )


def _lengths(config: SyntheticConfig, rng: np.random.Generator) -> Ints:
    sigma = config.length_spread
    drawn = rng.lognormal(np.log(config.mean_events) - sigma**2 / 2, sigma, config.users)
    return np.clip(np.rint(drawn), config.min_events, config.max_events).astype(np.int64)


def _clock(config: SyntheticConfig, offsets: Ints, rng: np.random.Generator) -> tuple[Ints, Bools]:
    """Time stamps in seconds, and which events begin a session: the first, and those after a long gap."""
    events = int(offsets[-1])
    new_session = rng.random(events) < config.session_break
    pause = config.session_gap + rng.lognormal(np.log(config.break_median), config.break_spread, events)
    step = 1 + rng.lognormal(np.log(config.gap_median), config.gap_spread, events)
    step = np.minimum(step, config.session_gap - 1)
    step[rng.random(events) < config.ties] = 0
    gap = np.where(new_session, pause, step).astype(np.int64)
    arrival = rng.integers(int(config.arrival_days * _DAY) + 1, size=config.users)
    new_session[offsets[:-1]] = True
    gap[offsets[:-1]] = 0
    total = np.cumsum(gap)
    start = config.start + arrival - total[offsets[:-1]]
    return total + np.repeat(start, np.diff(offsets)), new_session


def _event_table(
    config: SyntheticConfig, trace: Trace, items: pa.Array, users: pa.Array, item_domain: Ints
) -> pa.Table:
    columns = {
        "user": users.take(pa.array(np.repeat(np.arange(config.users), np.diff(trace.offsets)))),
        "item": items.take(pa.array(trace.item)),
        "behavior": pa.array(config.behaviors).take(pa.array(trace.behavior)),
        "timestamp": pa.array(trace.timestamp),
    }
    if config.domains > 1:
        names = pa.array([f"domain-{d + 1}" for d in range(config.domains)])
        columns["domain"] = names.take(pa.array(item_domain[trace.item]))
    return pa.table(columns)
