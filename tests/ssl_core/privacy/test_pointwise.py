"""Functions of single numbers that tasks are made of have the same bits wherever in a tensor a number stands, or are found.

With softplus, a look at a few made-up units found equal bits by chance, and with weights made for it a patient's absence moved
the others' sum by 1.5 C.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests_engines import Given, with_weights
from tests_tasks import plan
from torch import Tensor, nn
from torch.nn import functional

from ssl_core.encoders.vector import to_vector
from ssl_core.objectives.base import Views
from ssl_core.objectives.build import MODELS, build_model
from ssl_core.privacy import pointwise, shapes
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.engines import choose_engine, synthetic_views
from ssl_core.privacy.gradients import InShapes, PerUnitGradients
from ssl_core.privacy.pointwise import Watched, differing, uneven

KINDS = [kinds for kinds in sorted(MODELS) if kinds[2] != "simclr-buckets"]
VIEWS = {"values": torch.randn(7, 4, generator=torch.Generator().manual_seed(2))}


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_no_task_has_such_a_function_on_this_processor(kinds: Any) -> None:
    given = plan(kinds, 1)
    model = build_model(given)
    views = synthetic_views(model, given.data)
    engine = choose_engine(model, views, "auto")
    assert isinstance(engine, InShapes) and uneven(engine, views) == ()


def test_functions_of_forward_and_backward_passes_are_met() -> None:
    given = plan(("image", "vit", "masked-autoencoding"), 1)
    model = build_model(given)
    engine, views = BookkeepingEngine(model), synthetic_views(model, given.data)
    with Watched() as watched:
        engine.made_of(views)
    assert {"aten.gelu.default", "aten.gelu_backward.default", "aten.mul.Tensor"} <= {str(c[0]) for c in watched.found.values()}


def other_at_the_end(values: Tensor, by: float = 2.0**-23) -> Tensor:
    """As on a processor that takes 32 numbers at once."""
    return values * (1.0 + by * (torch.arange(len(values)) >= len(values) // 32 * 32))


def test_a_function_that_rounds_otherwise_there_is_found_also_where_it_writes_into_its_numbers() -> None:
    assert differing(other_at_the_end, (torch.zeros(1),), {}) and not differing(torch.mul, (torch.zeros(1), 2.0), {})
    assert differing(lambda values: values.copy_(other_at_the_end(values)), (torch.zeros(1),), {})
    assert not differing(lambda values: values.mul_(2.0), (torch.zeros(1),), {})
    assert not differing(torch.log, (torch.zeros(1),), {}), "what is no number is no number everywhere"
    with Watched() as watched:
        functional.softplus(torch.zeros(3, requires_grad=True)).sum().backward()
    assert {str(call[0]) for call in watched.found.values()} >= {"aten.softplus.default", "aten.softplus_backward.default"}


class Gated(Given):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def losses(self, views: Views) -> Tensor:
        return self.layer(views["values"]).abs().sum(dim=-1)

    def forward(self, views: Views) -> Tensor:
        return self.losses(views)


@pytest.mark.parametrize("engine", [BookkeepingEngine, PerUnitGradients])
@pytest.mark.parametrize(
    ("most", "threads", "wanted"), [(64, 1, (32, 64)), (100, 1, (32, 64, 96)), (63, 1, (32,)), (31, 1, (1,)), (64, 2, (1,))]
)
def test_where_there_is_such_a_function_shapes_leave_no_rest_or_have_one_unit(
    engine: Any, most: int, threads: int, wanted: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = with_weights(Gated())
    before = to_vector(model)
    assert shapes._of_drawn_weights(model, engine(model), VIEWS, most)[0] in {4, 8}
    honest = pointwise.differing
    monkeypatch.setattr(pointwise, "differing", lambda func, *given: "abs" in str(func) or honest(func, *given))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert shapes._of_drawn_weights(model, engine(model), VIEWS, most) == wanted
    assert to_vector(model).tobytes() == before.tobytes()
