"""What a pass leaves behind is found wherever a model may hide it, and named without a value; what it reads leaves nothing."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pytest
import tests_engines
import torch
from torch import Tensor, nn

from ssl_core.data.patients import Patients
from ssl_core.errors import PrivacyError
from ssl_core.privacy.traces import Traces

OF_THE_FILE: list[int] = []


class Slots:
    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen = 0


class Plain:
    def __init__(self) -> None:
        self.seen = Slots()


class Shelf:
    """No module, and nothing of its own: its class holds what is put there."""

    put: list[int] = []  # noqa: RUF012 - the fault that is to be found


AN_OBJECT = Plain()
A_NUMBER = 0
BY_A_FUNCTION: list[int] = []
BY_A_CLASS: list[int] = []


@lru_cache
def asked_for(name: str) -> list[int]:
    return []


def further() -> None:
    BY_A_FUNCTION.append(1)


class Further:
    @staticmethod
    def go() -> None:
        BY_A_CLASS.append(1)


class Model(nn.Module):
    """Every place that we thought of."""

    shared: list[int] = []  # noqa: RUF012 - the fault that is to be found

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
        self.number, self.text, self.array, self.kept = 0, "", np.zeros(3), torch.zeros(3)
        self.queue, self.names, self.known = deque[Tensor](maxlen=4), dict[str, Any](), set[int]()
        self.inside = {"deep": [(Plain(), np.empty(2, object))]}
        self.own, self.partly = torch.Generator(), partial(max, [0])
        self.sparse, self.half = torch.eye(3).to_sparse(), torch.zeros(2, dtype=torch.bfloat16)
        closed = [0]
        self.closed = lambda: closed.append(1)
        self.shelf, self.asked = Shelf(), asked_for
        asked_for("before any patient")

    def by_default(self, seen: list[int] = []) -> None:  # noqa: B006 - the fault that is to be found
        seen.append(1)

    def in_the_file(self) -> None:
        OF_THE_FILE.append(1)

    def in_an_object(self) -> None:
        AN_OBJECT.seen.seen += 1

    def in_a_number(self) -> None:
        global A_NUMBER
        A_NUMBER += 1

    def in_a_cache(self) -> None:
        asked_for("before any patient").append(1)

    def in_another_file(self) -> None:
        tests_engines.TEXT["seen"] = 1

    def by_a_function(self) -> None:
        further()

    def by_a_class(self) -> None:
        Further.go()


def _into_object_array(model: Model) -> None:
    model.inside["deep"][0][1][1] = "somebody"


def _weight(model: Model) -> None:
    with torch.no_grad():
        model.layer[0].weight[1, 1] += 1e-7


CHANGES: dict[str, tuple[Callable[[Model], Any], str]] = {
    "number": (lambda model: setattr(model, "number", 0.5), r"Model\.number"),
    "text": (lambda model: setattr(model, "text", "somebody"), r"Model\.text"),
    "array": (lambda model: model.array.put(1, 1e-300), r"Model\.array"),
    "tensor": (lambda model: model.kept[1:].fill_(1e-30), r"Model\.kept"),
    "sign of a zero": (lambda model: model.kept.neg_(), r"Model\.kept"),
    "kind of a tensor": (lambda model: setattr(model, "kept", model.kept.int()), r"Model\.kept"),
    "bfloat16": (lambda model: model.half.fill_(1), r"Model\.half"),
    "sparse tensor": (lambda model: setattr(model, "sparse", 2 * model.sparse), r"Model\.sparse"),
    "queue": (lambda model: model.queue.append(torch.zeros(1)), r"Model\.queue"),
    "key": (lambda model: model.names.update(somebody=1), r"Model\.names"),
    "set": (lambda model: model.known.add(3), r"Model\.known"),
    "object with slots": (lambda model: setattr(model.inside["deep"][0][0].seen, "seen", 1), r"Model\.inside"),
    "array of objects": (_into_object_array, r"Model\.inside"),
    "own generator": (lambda model: torch.rand(1, generator=model.own), r"Model\.own"),
    "partial": (lambda model: model.partly.args[0].append(1), r"Model\.partly"),
    "closure": (lambda model: model.closed(), r"Model\.closed"),
    "default value": (lambda model: model.by_default(), r"class Model\.by_default"),
    "class": (lambda model: model.shared.append(1), r"class Model\.shared"),
    "file": (lambda model: model.in_the_file(), r"class Model\.in_the_file"),
    "class of an object": (lambda model: model.shelf.put.append(1), r"Model\.shelf"),
    "object of the file": (lambda model: model.in_an_object(), r"class Model\.in_an_object"),
    "number of the file": (lambda model: model.in_a_number(), r"class Model\.in_a_number"),
    "cache of a function": (lambda model: model.in_a_cache(), r"Model\.asked"),
    "cache that was emptied": (lambda model: model.asked.cache_clear(), r"Model\.asked"),
    "another file": (lambda model: model.in_another_file(), r"class Model\.in_another_file"),
    "function of the file": (lambda model: model.by_a_function(), r"class Model\.by_a_function"),
    "class of the file": (lambda model: model.by_a_class(), r"class Model\.by_a_class"),
    "parameter": (_weight, r"Model\.layer\.0\.weight"),
    "gradient": (lambda model: model.layer[1](torch.ones(1, 2)).sum().backward(), r"Model\.layer\.1\.weight"),
    "attribute of a parameter": (lambda model: setattr(model.layer[0].bias, "seen", 1), r"Model\.layer\.0\.bias"),
    "attribute of a layer": (lambda model: setattr(model.layer[1], "seen", 1), r"Model\.layer\.1\.seen"),
    "layer taken away": (lambda model: model.layer.__delitem__(1), r"Model\.layer\.1|Model\.layer\._modules"),
    "hook": (lambda model: model.layer[1].register_forward_hook(lambda *_: None), r"Model\.layer\.1\._forward_hooks"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_changed_is_found_and_named_without_a_value(
    case: str, patients: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tests_engines, "TEXT", dict(tests_engines.TEXT))
    change, path = CHANGES[case]
    model = Model()
    traces = Traces(model, patients)
    with traces.none_of("nothing"):
        model.layer(torch.ones(4, 2))
    with pytest.raises(PrivacyError, match=rf"a draw of patients changes what the model holds.*field: ({path});") as found:
        with traces.none_of("a draw"):
            change(model)
    assert "somebody" not in str(found.value) and found.value.value is None


@pytest.mark.parametrize(
    ("draw", "whose"),
    [(lambda: torch.rand(1), "torch"), (lambda: np.random.rand(1), "numpy"), (random.random, "Python")],
    ids=["torch", "numpy", "Python"],
)
def test_coins_of_a_global_generator_are_found(draw: Callable[[], Any], whose: str, patients: Patients) -> None:
    traces = Traces(Model(), patients)
    draw()
    with traces.none_of("a pass"):
        np.random.default_rng(1).random()
    with pytest.raises(PrivacyError, match=f"a pass of patients draws coins of its own.*{whose}'s generator"):
        with traces.none_of("a pass"):
            draw()


def test_keys_that_are_written_among_the_records_are_found(patients: Patients) -> None:
    traces = Traces(Model(), patients)
    with pytest.raises(PrivacyError, match="field: patients;"):
        with traces.none_of("a draw"):
            patients.records[-1, -1] += 1


def test_what_is_put_back_or_made_again_the_same_is_no_change(patients: Patients) -> None:
    model = Model()
    model.names["itself"] = model
    model.inside["round"] = model.inside
    traces = Traces(model, patients)
    with traces.none_of("a pass"):
        model.kept, model.array = model.kept.clone(), model.array.copy()
        model.number += 1
        model.number -= 1
        handle = model.layer[0].register_forward_hook(lambda *_: None)
        handle.remove()
