"""Before step 1: a plan asks for a task by a name that no plan may have: what is meant, why not, and what fits in its place.

Comes in: the plan as it was written, where in it the name stands, and the name. Goes out: `Answer`. Every task that it names is
one that the plan's own data and encoder can have with its default settings: shape and rate of the records included. Whoever
asks for another spelling of a task is told the right one, and the plan is never read as if it had been written.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from ssl_core.spec.coupled import CoupledTask
from ssl_core.spec.data import Data, ImageData, SignalData
from ssl_core.spec.encoder import Encoder
from ssl_core.spec.fit import TOGETHER, check_fit
from ssl_core.spec.nearest import nearest, not_together
from ssl_core.spec.objective import Joint, Objective, Single
from ssl_core.spec.refused import REFUSED, canonical

_DATA: TypeAdapter[Data] = TypeAdapter(Annotated[Data, Field(discriminator="kind")])
_ENCODER: TypeAdapter[Encoder] = TypeAdapter(Annotated[Encoder, Field(discriminator="name")])
_SINGLE: TypeAdapter[Single] = TypeAdapter(Annotated[Single, Field(discriminator="name")])
_MOST = 5


class Answer(NamedTuple):
    """What is wrong, None where there is no more to say than that the name is unknown; what to write."""

    problem: str | None
    remedy: str


def answer(plan: Mapping[str, Any], where: Sequence[str | int], asked: str) -> Answer | None:
    """Of the task `asked` at `where` in `plan`; None where data or encoder are not valid themselves."""
    try:
        data, encoder = _DATA.validate_json(json.dumps(plan["data"])), _ENCODER.validate_json(json.dumps(plan["encoder"]))
    except ValidationError:
        return None
    beside = _beside(plan, where)
    together = {task for kind, name, task in TOGETHER if (kind, name) == (data.kind, encoder.name)}
    known = {task for _, _, task in TOGETHER} | ({"joint"} if len(where) == 1 else set())
    meant = canonical(asked, known)
    order = nearest((data.kind, encoder.name, meant or asked), TOGETHER, len(together))
    fitting = [task for task in order if misfit(task, data, encoder, beside) is None]
    if not together:
        take = not_together((data.kind, encoder.name, asked), TOGETHER)
    elif fitting:
        take = f"take {' or '.join(fitting[:_MOST])}"
    else:
        take = f"no task fits here as it is: {misfit(order[0], data, encoder, beside)}"
    if meant in REFUSED:
        instead = [task for task in REFUSED[meant].instead if task in fitting]
        public = isinstance(data, ImageData | SignalData) and together and meant in set(CoupledTask)
        return Answer(
            f"a pretext task that couples patients: {REFUSED[meant].reason}",
            (f"take {' or '.join(instead)}" if instead else take)
            + (f"; on public data alone: choral operator prepare --task {meant}" if public else ""),
        )
    if meant is not None:
        problem = f"a pretext task by another name than it has here, {meant}"
        if meant != "joint" and meant not in together:
            return Answer(problem, f"{meant} does not fit here: {take}")
        why = None if meant == "joint" else misfit(meant, data, encoder, beside)
        return Answer(problem, f'write name = "{meant}"' + ("" if why is None else f", but {why}; else {take}"))
    close = difflib.get_close_matches(asked.lower().replace("_", "-"), fitting, 1)
    return Answer(None, f"{f'perhaps {close[0]} is meant; else ' if close else ''}{take}")


def misfit(task: str, data: Data, encoder: Encoder, beside: Sequence[Single] = ()) -> str | None:
    """Why data and encoder cannot have `task` with its default settings, `beside` these in a joint one; None: they can."""
    try:
        by_default(task, data, encoder, beside)
    except ValueError as error:
        return str(error)
    return None


def by_default(task: str, data: Data, encoder: Encoder, beside: Sequence[Single] = ()) -> Objective:
    """`task` with its default settings, `beside` these in a joint one; `ValueError` with one line where it does not fit."""
    try:
        single = _SINGLE.validate_python({"name": task})
        tasks = (*beside, single)
        objective = Joint(name="joint", tasks=tasks, weights=(1.0,) * len(tasks)) if beside else single
    except ValidationError as error:
        fault = error.errors()[0]
        missing = fault["type"] == "missing"
        raise ValueError(f"it has no default for {fault['loc'][-1]}" if missing else str(fault["msg"])) from error
    check_fit(data, encoder, objective)
    return objective


def _beside(plan: Mapping[str, Any], where: Sequence[str | int]) -> list[Single]:
    """The other tasks of a joint one, as far as they are valid."""
    found: list[Single] = []
    if "tasks" in where:
        for number, task in enumerate(plan["objective"]["tasks"]):
            try:
                found += [] if number == where[-1] else [_SINGLE.validate_json(json.dumps(task))]
            except ValidationError:
                continue
    return found
