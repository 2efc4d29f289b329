"""Keys of nested configuration models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pydantic

_DEEPEST = 6


def known_keys(cls: type[pydantic.BaseModel], location: list[Any]) -> list[str]:
    """The keys of the model that lies at `location`, following fields, lists and tagged unions."""
    models: list[type[pydantic.BaseModel]] = [cls]
    for part in location:
        inner: list[type[pydantic.BaseModel]] = []
        for model in models:
            if part in model.model_fields:
                inner.extend(_models_in(model.model_fields[part].annotation))
            elif isinstance(part, str) and model.__name__ == part:
                inner.append(model)
        # List indices and union tags appear in the location but lead to no field.
        models = inner or models
    return sorted({name for model in models for name in model.model_fields})


def _models_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    found: list[type[pydantic.BaseModel]] = []
    for argument in getattr(annotation, "__args__", ()):
        found.extend(_models_in(argument))
    return found


def key_path(cls: type[pydantic.BaseModel], location: list[Any]) -> str:
    """The dotted path of the key that an error lies at, without pydantic's names of alternatives."""
    models, kept, inside = [cls], [], False
    for part in location:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if fields:
            models = [inner for field in fields for inner in _models_in(field.annotation)]
            inside = any("dict" in str(field.annotation) for field in fields)
        elif not (isinstance(part, int) or inside or models):
            break
        kept.append(str(part))
    return ".".join(kept)


def places_of(cls: type[pydantic.BaseModel], name: str) -> list[str]:
    """The dotted paths, from `cls` on, of the keys of that name: `model.blocks` for `blocks`."""
    return sorted(set(_places(cls, name, "", _DEEPEST)))


def _places(cls: type[pydantic.BaseModel], name: str, prefix: str, depth: int) -> Iterator[str]:
    for key, field in cls.model_fields.items():
        if key == name:
            yield prefix + key
        if depth:
            for inner in _models_in(field.annotation):
                yield from _places(inner, name, f"{prefix}{key}.", depth - 1)
