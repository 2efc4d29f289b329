"""Whether a model is below a floor: counting alone, by the same protocol, ranks better."""

from __future__ import annotations

from typing import Any


def below_floors(result: dict[str, Any], floors: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The floors that a model does not reach, by NDCG or HR at the first cutoff.

    Args:
        result: the model's report.
        floors: those of baselines, by name.

    Returns:
        The floors with a higher metric, the highest NDCG first: `floor`, and `metrics`: for each one that the
        model is below in, `ours`, `floor`, `difference` (ours less the floor's, below 0) and, where both have
        intervals, `intervals_overlap`.
    """
    names = [next((name for name in result if name.startswith(f"{kind}@")), None) for kind in ("ndcg", "hr")]
    found = []
    for floor, theirs in floors.items():
        metrics = {
            name: _difference(name, result, theirs)
            for name in names
            if name is not None and name in theirs and result[name] < theirs[name]
        }
        if metrics:
            found.append({"floor": floor, "metrics": metrics})
    return sorted(found, key=lambda below: -floors[below["floor"]].get(names[0] or "", 0.0))


def _difference(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    row = {"ours": ours[name], "floor": theirs[name], "difference": ours[name] - theirs[name]}
    one, two = (report.get("intervals", {}).get(name) for report in (ours, theirs))
    if one is None or two is None:
        return row
    return row | {"intervals_overlap": bool(one[1] >= two[0] and two[1] >= one[0])}
