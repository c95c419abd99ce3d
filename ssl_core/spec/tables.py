"""Before step 1: which table of a file a fault lies in, so that a person is told the keys of that table and of no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel


def table_at(model: type[BaseModel], where: Sequence[str | int]) -> type[BaseModel]:
    """The model of the table that holds the last part of `where`, a fault's place as pydantic says it; `model` if unknown.

    In it stand keys, numbers of list entries, and tags: the kind or name by which one of several models was taken.
    """
    reached: list[Any] = [model]
    for part in where[:-1]:
        found = list(_models(reached))
        tagged = [each for each in found if len(found) > 1 and _has_tag(each, part)]
        reached = tagged or [step for each in reached for step in _step(each, part)]
    found = list(_models(reached))
    return found[0] if len(found) == 1 else model


def _models(kinds: Sequence[Any]) -> Iterator[type[BaseModel]]:
    for kind in kinds:
        if get_origin(kind) in (Union, UnionType):
            yield from _models(get_args(kind))
        elif get_origin(kind) is Annotated:
            yield from _models(get_args(kind)[:1])
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind


def _has_tag(model: type[BaseModel], part: str | int) -> bool:
    kinds = (field.annotation for field in model.model_fields.values())
    return any(get_origin(kind) is Literal and part in get_args(kind) for kind in kinds)


def _step(kind: Any, part: str | int) -> Iterator[Any]:
    if get_origin(kind) in (Union, UnionType):
        for each in get_args(kind):
            yield from _step(each, part)
    elif get_origin(kind) is Annotated:
        yield from _step(get_args(kind)[0], part)
    elif get_origin(kind) in (tuple, list) and isinstance(part, int):
        yield get_args(kind)[0]
    elif get_origin(kind) is dict:
        yield get_args(kind)[1]
    elif isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
        yield kind.model_fields[str(part)].annotation
