"""Beam, spared what it does over and over while a job is put together: two fifths of a small job's time."""

from __future__ import annotations

from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import userstate


def hurry() -> None:
    """Have Beam read the signatures of a DoFn's methods once a class, and make each view of options once.

    Results are the same: all views of options share their values, and signatures belong to classes.
    """
    read, make = userstate.get_dofn_specs, PipelineOptions.view_as
    specs: dict[type, Any] = {}
    views: dict[tuple[int, type], tuple[Any, Any]] = {}

    def read_once(dofn: Any) -> Any:
        kind = type(dofn)
        if "process" in vars(dofn):  # a function of its own, of beam.Map and the like
            return read(dofn)
        if kind not in specs:
            specs[kind] = read(dofn)
        states, timers = specs[kind]
        return set(states), set(timers)

    def make_once(options: Any, kind: type) -> Any:
        key = (id(options._all_options), kind)
        if key not in views:
            # Held, so that no other gets its place in memory.
            views[key] = (options._all_options, make(options, kind))
        return views[key][1]

    userstate.get_dofn_specs, PipelineOptions.view_as = read_once, make_once
