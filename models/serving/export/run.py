"""Export of a run to a folder, in one of several formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from behavior.errors import UserError
from models.serving.export import graphs
from models.serving.export.folder import new_folder
from models.serving.export.scoring import scoring_of
from models.serving.export.tower import Scorer, UserTower
from models.serving.export.weights import WEIGHTS, item_rows, write_ids, write_record, write_weights
from models.serving.load import TrainedModel

Format = Literal["safetensors", "onnx", "aoti"]
FORMATS: tuple[Format, ...] = ("safetensors", "onnx", "aoti")
ABOUT, CONFIG = "export.json", "config.json"
EXPORT_VERSION = 1


def export(trained: TrainedModel, out: str | Path, format: Format = "safetensors") -> dict[str, Any]:
    """Write a model for programs without lrm-kit.

    Always `items.parquet`, the vocabularies of features, `config.json` (all settings) and, last,
    `export.json`: what every id means, how scores are made, shapes and files. As `safetensors` with all
    weights; as `onnx` or `aoti` with the tower of users and the scorer of all items, for batches of any size.

    Args:
        trained: a retrieval model.
        out: a new or empty folder.
        format: of what is written.

    Returns:
        What `export.json` says.

    Raises:
        UserError: the folder holds something, the format cannot be made here, or not of this model.
    """
    if format not in FORMATS:
        raise UserError(
            f"there is no format '{format}'", where="--format", fix=f"known: {', '.join(FORMATS)}"
        )
    scores = scoring_of(trained)
    modules = None
    if format != "safetensors":
        (graphs.check_onnx if format == "onnx" else graphs.check_compiler)()
        modules = graphs.tower_and_scorer(trained)
    with new_folder(out) as folder:
        about: dict[str, Any] = {
            "export_version": EXPORT_VERSION,
            "format": format,
            "run": str(trained.run),
            "checkpoint": trained.checkpoint,
            "config": CONFIG,
            "scoring": scores,
            "ids": write_ids(trained, folder),
        }
        if modules is None:
            about["weights"] = {"file": WEIGHTS, "item_rows": item_rows(trained)}
            about["tensors"] = write_weights(trained, folder)
        else:
            about["graphs"] = _write_graphs(trained, *modules, folder, format)
        write_record(folder, CONFIG, trained.config.model_dump(mode="json"))
        write_record(folder, ABOUT, about)
    return about


def _write_graphs(
    trained: TrainedModel, tower: UserTower, scorer: Scorer, folder: Path, format: Format
) -> dict[str, Any]:
    """Trace and write both; returns inputs and outputs by file."""
    dim, longest = tower.model.query_dim, trained.config.model.max_length
    history = ["items", "history_mass"] if scorer.with_history else []
    outputs = ["query", *history[1:]]
    examples = graphs.examples_of(tower, dim)
    ending = "onnx" if format == "onnx" else "pt2"
    described: dict[str, Any] = {}
    named: dict[str, tuple[UserTower | Scorer, list[str], list[str]]] = {
        "tower": (tower, [each.name for each in tower.inputs], outputs),
        "scorer": (scorer, ["query", *history], ["scores"]),
    }
    for (name, (module, inputs, results)), example in zip(named.items(), examples, strict=True):
        program = graphs.traced(module, example, longest)
        path = folder / f"{name}.{ending}"
        if format == "onnx":
            graphs.write_onnx(program, path, inputs, results)
        else:
            graphs.write_aoti(program, path)
        described[name] = {"file": path.name, "inputs": inputs, "outputs": results}
    described["tower"]["inputs"] = [
        {
            "name": each.name,
            "shape": ["batch", "N"] if each.of_events else ["batch"],
            "dtype": str(each.dtype).removeprefix("torch."),
            "meaning": each.meaning,
        }
        for each in tower.inputs
    ]
    described["max_N"] = longest
    return described
