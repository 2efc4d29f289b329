"""Options of a job on Dataflow, checked before anything is read, staged or paid for."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    TestOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

from behavior.errors import UsageError, UserError
from pipelines.beam_options import parsed
from pipelines.option_values import value_of

WHERE = "after --"
_NEEDED = {"project": "PROJECT", "region": "REGION", "temp_location": "gs://BUCKET/tmp"}
_REGION = "CLOUDSDK_COMPUTE_REGION"
_NO_JOB = {
    "template_location": "it makes a template, and no job",
    "update": "it replaces a running job",
    "create_from_snapshot": "it is for streaming jobs",
    "dry_run": "nothing would run",
    "streaming": "the job has an end",
}
_LABEL_LENGTH, _MOST_LABELS = 63, 64
_PACKAGES = ("google.cloud.dataflow", "google.cloud.storage", "gcsfs")


def check_options(options: Sequence[str]) -> None:
    """Everything about the options that can be known on this machine.

    Raises:
        UsageError: one is missing or wrong.
        UserError: a package for Google Cloud is not installed.
    """
    given = parsed(completed(options))
    _check_needed(given.view_as(GoogleCloudOptions))
    _check_no_job(given)
    for problem in _found_by_beam(given):
        raise UsageError(problem, where=WHERE, fix="correct it: docs/deploy.md has a whole command")
    _check_labels(given.view_as(GoogleCloudOptions).labels or [])
    _check_worker_code(given)
    _check_packages()


def completed(options: Sequence[str]) -> list[str]:
    """The options with a region, where Google's tools have a default."""
    region = os.environ.get(_REGION)
    if not region or value_of(options, "--region") is not None:
        return list(options)
    return [*options, f"--region={region}"]


def check_reachable(path: str, where: str) -> None:
    """Refuse a path of this machine.

    Args:
        path: a path or URL that workers are to read or write.
        where: the flag that named it.

    Raises:
        UsageError: machines of Dataflow have no such path.
    """
    if "://" not in path or path.startswith(("file://", "local://")):
        raise UsageError(
            f"workers on Dataflow cannot reach '{path}', which is a path of this machine",
            where=where,
            fix="copy it to Cloud Storage and name it there: gs://BUCKET/...",
        )


def _check_needed(given: GoogleCloudOptions) -> None:
    missing = [name for name in _NEEDED if not getattr(given, name)]
    if missing:
        named = ", ".join(f"--{name}" for name in missing)
        raise UsageError(
            f"Dataflow needs {named}",
            where=WHERE,
            fix="add " + " ".join(f"--{name}={_NEEDED[name]}" for name in missing),
        )


def _check_no_job(given: PipelineOptions) -> None:
    views = [given.view_as(kind) for kind in (GoogleCloudOptions, TestOptions, StandardOptions)]
    for name, reason in _NO_JOB.items():
        if any(name in view._visible_options and getattr(view, name) for view in views):
            raise UsageError(f"--{name} makes no sense here: {reason}", where=WHERE, fix="leave it out")


def _found_by_beam(given: PipelineOptions) -> Iterator[str]:
    """What Beam's own checks say that need no network; it makes them when the job is sent."""
    validator = PipelineOptionsValidator(given, None)
    cloud, workers = given.view_as(GoogleCloudOptions), given.view_as(WorkerOptions)
    yield from validator.validate_gcs_path(cloud, "temp_location")
    if cloud.staging_location is not None:
        yield from validator.validate_gcs_path(cloud, "staging_location")
    cloud.dataflow_endpoint = GoogleCloudOptions.DATAFLOW_ENDPOINT  # Beam's check allows no port in it
    yield from validator.validate_cloud_options(cloud)
    yield from validator.validate_num_workers(workers)
    yield from validator.validate_worker_region_zone(workers)
    yield from validator.validate_sdk_container_image_options(workers)


def _check_labels(given: Sequence[Any]) -> None:
    labels = [label for entry in given for label in _labels_of(entry)]
    if len(labels) > _MOST_LABELS:
        raise UsageError(
            f"{len(labels)} labels, and a job may have {_MOST_LABELS}", where="--labels", fix="leave some out"
        )
    for key, value in labels:
        good = all(
            len(part) <= _LABEL_LENGTH
            and part == part.lower()
            and part.replace("-", "").replace("_", "").isalnum()
            for part in (key, value or "0")
        )
        if not good or not key[0].isalpha():
            raise UsageError(
                f"Google Cloud takes no label '{key}={value}'",
                where="--labels",
                fix="at most 63 lower-case letters, digits, - and _, the key beginning with a letter",
            )


def _labels_of(entry: Any) -> list[tuple[str, str]]:
    """As Beam reads them: KEY=VALUE, or a dictionary."""
    if "{" not in str(entry):
        key, _, value = str(entry).partition("=")
        return [(key, value)]
    try:
        found = ast.literal_eval(str(entry))
    except (SyntaxError, ValueError):
        found = None
    if not isinstance(found, Mapping):
        raise UsageError(
            f"'{entry}' is no dictionary of labels",
            where="--labels",
            fix='write KEY=VALUE, or {"KEY": "VALUE"}',
        )
    return [(str(key), str(value)) for key, value in found.items()]


def _check_worker_code(given: PipelineOptions) -> None:
    """Workers need lrm-kit: in their image, or installed when they start."""
    setup, workers = given.view_as(SetupOptions), given.view_as(WorkerOptions)
    files = [*(setup.extra_packages or []), setup.setup_file, setup.requirements_file]
    for file in filter(None, files):
        if "://" not in file and not Path(file).is_file():
            raise UsageError(f"there is no file '{file}'", where=WHERE, fix="check the path")
    image = workers.sdk_container_image or workers.worker_harness_container_image
    if not image and not any(files) and not setup.prebuild_sdk_container_engine:
        raise UsageError(
            "workers would have no lrm-kit: Beam's own image lacks it",
            where=WHERE,
            fix="add --sdk_container_image=IMAGE (docs/deploy.md says how to build it), or "
            "--extra_package=lrm_kit-VERSION.tar.gz",
        )


def _check_packages() -> None:
    for name in _PACKAGES:
        try:
            there = find_spec(name) is not None
        except ModuleNotFoundError:  # what it is in is not there
            there = False
        if not there:
            raise UserError(
                f"Dataflow cannot be used: {name.replace('.', '-')} is not installed",
                where="--runner",
                fix="pip install 'lrm-kit[gcp]'",
            )
