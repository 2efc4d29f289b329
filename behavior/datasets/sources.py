"""Where the data of the ready specs are published, as sources.yaml says."""

from __future__ import annotations

from functools import cache
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from behavior import datasets
from behavior.config import Config, did_you_mean, parse_config, read_yaml
from behavior.errors import UsageError
from behavior.spec.dataset_spec import DatasetSpec

VARIANT = "{variant}"


class Check(Config):
    """What a file must be to count as the published one."""

    bytes: int | None = Field(None, ge=0)
    """Its size."""
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    """MD5 in hexadecimal digits, where that is what is published; it guards against accidents."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 in hexadecimal digits."""


class SourceFile(Config):
    """One file to download."""

    url: str = Field(pattern=r"^https?://[^/]+/.+")
    """Its address; `{variant}` stands for the variant's name."""
    unpack: Literal["none", "zip", "tar"] = "none"
    """What to do with it; tar goes for compressed ones, too."""
    members: list[str] = []
    """What to take out of an archive: paths, or patterns with * that match at least one. Members are put into
    the output folder itself, without the folders of the archive."""

    @model_validator(mode="after")
    def _check(self) -> SourceFile:
        if bool(self.members) != (self.unpack != "none"):
            raise ValueError("'members' goes with unpack: zip and unpack: tar")
        return self

    @property
    def name(self) -> str:
        """Name of the downloaded file."""
        return PurePosixPath(urlsplit(self.url).path).name


class Source(Config):
    """Where one data set is published."""

    events: int | None = None
    """Published number of events."""
    files: list[SourceFile] = []
    """What to download; empty where a program may not."""
    variants: list[str] = []
    """Sizes or categories to choose from."""
    checks: dict[str, Check] = {}
    """Published sizes and checksums, by the name of the file."""
    by_hand: str | None = None
    """How people get the data, where a program may not."""

    @model_validator(mode="after")
    def _check(self) -> Source:
        if bool(self.files) == (self.by_hand is not None):
            raise ValueError("give either 'files' or 'by_hand'")
        if bool(self.variants) != any(VARIANT in file.url for file in self.files):
            raise ValueError(f"'variants' goes with {VARIANT} in an address")
        known = [file.name for variant in self.variants or [""] for file in self._of(variant)]
        for name in self.checks:
            if name not in known:
                raise ValueError(f"checks: no file is called '{name}'")
        return self

    def _of(self, variant: str) -> list[SourceFile]:
        return [file.model_copy(update={"url": file.url.replace(VARIANT, variant)}) for file in self.files]

    def files_of(self, variant: str | None = None) -> list[SourceFile]:
        """The files of a variant; of the data set itself where it has none.

        Raises:
            UsageError: a variant is missing, unknown, or given in vain.
        """
        if variant is None and self.variants:
            raise UsageError(
                "this data set has variants",
                where="--variant",
                fix=f"add --variant and one of: {', '.join(self.variants)}",
            )
        if variant is not None and variant not in self.variants:
            fix = did_you_mean(variant, self.variants) if self.variants else "leave --variant out"
            raise UsageError(f"there is no variant '{variant}'", where="--variant", fix=fix)
        return self._of(variant or "")

    def check_of(self, file: SourceFile) -> Check:
        """What is published about a file; nothing at all where that is not known."""
        return self.checks.get(file.name, Check())

    def bytes_of(self, variant: str | None = None) -> int | None:
        """Size of the download; None where it is not published."""
        sizes = [self.check_of(file).bytes for file in self.files_of(variant)]
        return sum(size or 0 for size in sizes) if sizes and None not in sizes else None


@cache
def _record() -> dict[str, Any]:
    return read_yaml(datasets.SOURCES)


def source_of(name: str) -> Source:
    """Where the data of a ready spec are published.

    Raises:
        UserError: there is no ready spec of that name.
    """
    datasets.path_of(name, where="NAME")
    return parse_config(Source, _record()[name], where=f"{datasets.SOURCES}: {name}")


def spec_of(name: str) -> DatasetSpec:
    """A ready spec, without input.

    Raises:
        UserError: there is none of that name.
    """
    path = datasets.path_of(name, where="NAME")
    return parse_config(DatasetSpec, read_yaml(path), where=str(path))


def layout_of(spec: DatasetSpec) -> list[str]:
    """Files that a spec expects in the input folder: names, and patterns with *."""
    groups = [*spec.events, *spec.items, *spec.users]
    return list(dict.fromkeys(name for group in groups for name in group.files))


def describe(name: str) -> dict[str, Any]:
    """What is known of a data set before its files are fetched, as plain values.

    Raises:
        UserError: there is no such data set; names the nearest.
    """
    source, spec = source_of(name), spec_of(name)
    sizes = {variant: source.bytes_of(variant) for variant in source.variants}
    return {
        "name": name,
        "description": spec.description,
        "events": source.events,
        "bytes": sizes or (source.bytes_of() if source.files else None),
        "license": spec.license,
        "homepage": spec.homepage,
        "fetchable": source.by_hand is None,
        "by_hand": source.by_hand,
        "variants": source.variants,
        "files": layout_of(spec),
    }
