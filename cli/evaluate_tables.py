"""What `lrm evaluate` prints."""

from __future__ import annotations

from typing import Any

from behavior.wording import number_of
from cli.console import print_table, say
from cli.floor_tables import chosen, interval, metrics_of

_SLICES = 20
MISSES = {"oov_targets": "unknown", "excluded_targets": "excluded", "new_targets": "new"}
"""Targets that no model, or not this one, can know: fields of a result, and what they are called."""


def print_means(run: str, result: dict[str, Any]) -> None:
    """Means over users, with confidence intervals, next to those of baselines."""
    names = metrics_of(result)
    others = list(result.get("baselines", {}).values())
    intervals = result.get("intervals")
    refitted = " (refitted)" if result.get("trained_on", "train") != "train" else ""
    header = [
        "",
        result["model"] + refitted,
        *(["95 %"] if intervals else []),
        *(other["model"] for other in others),
    ]
    rows = [
        [
            name,
            result[name],
            *([interval(intervals[name])] if intervals else []),
            *(other[name] for other in others),
        ]
        for name in names
    ]
    rows += [
        [
            f"{what} targets",
            result[name],
            *([""] if intervals else []),
            *(other.get(name) for other in others),
        ]
        for name, what in MISSES.items()
        if name in result
    ]
    counts = [f"{result[name]:,} {name}" for name in ("users", "targets") if name in result]
    print_table(f"{run}: {', '.join([result['split'], *counts])}", header, rows)


def print_next_behavior(result: dict[str, Any]) -> None:
    """How well the next event's behavior is predicted, of models that do."""
    if "next_behavior_accuracy" not in result:
        return
    say(
        f"next behavior: accuracy {result['next_behavior_accuracy']:.4f} (the most frequent one: "
        f"{result['next_behavior_majority']:.4f}), log loss {result['next_behavior_log_loss']:.4f}, of "
        + number_of(result["next_behavior_events"], "event")
    )


def print_breakdown(result: dict[str, Any]) -> None:
    """HR and NDCG at the first cutoff of every slice: the 20 with the most targets, where there are more."""
    names = [name for name in result if name.startswith(("ndcg@", "hr@"))]
    shown = sorted(names[:2], reverse=True)
    for attribute, parts in result.get("breakdown", {}).items():
        missed = [name for name in MISSES if any(record.get(name) for record in parts.values())]
        largest = sorted(parts, key=lambda part: -parts[part]["targets"])[:_SLICES]
        rows = []
        for part in (part for part in parts if part in largest):
            record, row = parts[part], [part, parts[part]["targets"]]
            row += [parts[part][name] for name in missed]
            for name in shown:
                row += [record[name]]
                row += [interval(record["intervals"][name])] if "intervals" in record else []
            rows.append(row)
        columns = [[name, *(["95 %"] if "intervals" in result else [])] for name in shown]
        print_table(
            f"by {attribute}",
            [
                "",
                "targets",
                *(MISSES[name] for name in missed),
                *(name for pair in columns for name in pair),
            ],
            rows,
        )
        if len(parts) > len(largest):
            say(f"and {len(parts) - len(largest):,} smaller ones: --json has them")


def print_comparison(run: str, result: dict[str, Any]) -> None:
    """The difference to another run."""
    comparison = result["comparison"]
    rows = [
        [
            name,
            row["ours"],
            row["theirs"],
            f"{row['difference']:+.4f}",
            interval(row["interval"], sign="+"),
            f"{row['share_below_zero']:.1%}",
        ]
        for name, row in comparison["metrics"].items()
    ]
    print_table(
        f"{run} against {comparison['against']} ({comparison['model']}, time {comparison['time']})",
        ["", "this run", "the other", "difference", "95 %", "resamples below 0"],
        rows,
    )


def protocol(result: dict[str, Any]) -> str:
    """The protocol of the numbers, in one line; what does not apply to the task is left out."""
    parts = [f"time {result['time']}"] if "time" in result else []
    if "target_behavior" in result:
        parts.append(f"targets are events of '{result['target_behavior']}'")
    if result.get("told_behavior"):
        parts.append("the target's behavior is told")
    if "input_behaviors" in result:
        inputs, without = result["input_behaviors"], result["targets_without_inputs"]
        names = inputs if isinstance(inputs, str) else ", ".join(inputs)
        parts.append(f"inputs {names} only: {number_of(without, 'target')} without any, ranked last")
    if "exclude_seen" in result:
        reason = f" ({result['exclude_seen_reason']})" if "exclude_seen_reason" in result else ""
        parts.append(f"seen items {'removed' if result['exclude_seen'] else 'kept'}{reason}")
    if "candidates" in result:
        those = ", of them those of the target's domain" if result.get("candidates_of") == "domain" else ""
        parts.append(f"{number_of(result['candidates'], 'candidate')}{those}, ties count against the target")
    if result.get("new_items"):
        ranked = "ranked by fresh vectors" if result["new_items_ranked"] else "left out"
        parts.append(
            f"a later version of the data set: {number_of(result['new_items'], 'item')} that the model has "
            f"never seen {ranked}, {number_of(result['new_targets'], 'target')} among them"
        )
    if "split_kind" in result:
        parts.append(_split(result))
    if result.get("trained_on", "train") != "train":
        parts.append("refitted: trained on training and validation events")
    if "checkpoint" in result:
        epochs = f"after {number_of(result['epoch'], 'epoch')}, {number_of(result['step'], 'step')}"
        parts.append(f"{result['checkpoint']} checkpoint, {epochs}")
    if "average_of" in result:
        runs = result["average_of"]
        parts.append(
            f"ranked by the mean of the probabilities of {number_of(len(runs), 'run')}: {', '.join(runs)}"
        )
    if "stacked" in result:
        parts.append(f"stacked, weights of logits chosen on validation rows: {_weights(result['stacked'])}")
    return "; ".join([*parts, *chosen(result)])


def _weights(stacked: dict[str, Any]) -> str:
    each = [
        f"{name}: {_weights(value)}" if isinstance(value, dict) else f"{name} {value:.2f}"
        for name, value in stacked.items()
    ]
    return ", ".join(each)


def _split(result: dict[str, Any]) -> str:
    cuts = [f"{name} {result[name]}" for name in ("valid_at", "test_at") if name in result]
    targets = {"first": "the first target", "all": "all targets"}[result["split_targets"]]
    if "target_behavior" in result and result["split_kind"] == "leave_one_out":
        targets = "the last target"
    split = ", ".join([f"split {result['split_kind']}", f"{targets} of a user", *cuts])
    without = result.get("users_without_history")
    return split + (f"; {number_of(without, 'user')} without a history left out" if without else "")
