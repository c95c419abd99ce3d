"""The bank: public constants alone make it; its keys stand still within a round; never through the weights in training."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tests_bank import directions
from tests_tasks import plan
from torch import Tensor

from ssl_core.config import SpeedSpec
from ssl_core.encoders.vector import load_vector, to_vector
from ssl_core.errors import ConfigError, PrivacyError
from ssl_core.objectives.augment import COINS, Augmentation, augmented
from ssl_core.objectives.base import Views
from ssl_core.objectives.build import build_model
from ssl_core.objectives.looks import averaged, paired
from ssl_core.objectives.public_bank import embedded, public_bank
from ssl_core.objectives.simclr_bank import SimclrBankModel
from ssl_core.privacy.alone import check_alone
from ssl_core.privacy.bookkeeping import BookkeepingEngine
from ssl_core.privacy.engines import choose_engine, synthetic_views
from ssl_core.privacy.isolation import check_isolation
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.privacy.training import train_round
from ssl_core.procedural.images import procedural_images
from ssl_core.procedural.signals import procedural_signals
from ssl_core.spec.data import ImageData, SignalData
from ssl_core.spec.looks import SimclrBank

IMAGE = ImageData(kind="image", height=16, width=12, pool=2)
SIGNAL = SignalData(kind="signal", channels=2, samples=60, rate_hz=30.0, units=("mV",), typical=(1.0,))
HOW = Augmentation(crop=0.6, gain=0.2, noise=0.1, flip=False)
BANKS = pytest.mark.parametrize("task", ["simclr-bank", "moco-bank", "swav-bank", "dino-bank"])


@pytest.mark.parametrize("data", [IMAGE, SIGNAL], ids=["image", "signal"])
def test_the_bank_is_made_up_records_each_seen_through_one_look(data: Any) -> None:
    bank = public_bank(data, 70, 3, HOW)
    made = procedural_images(3, 70, data) if data is IMAGE else procedural_signals(3, 70, data).records
    coins = 1.0 - np.random.default_rng([3, 70]).random((70, COINS))
    assert bank.shape == (70, data.values) and np.array_equal(bank, augmented(made, coins, data, HOW))
    assert public_bank(data, 70, 3, HOW) is bank and not bank.flags.writeable
    assert not np.array_equal(public_bank(data, 70, 4, HOW), bank)


@pytest.mark.parametrize(
    ("data", "sizes"),
    [
        (IMAGE, [0.7493, 0.6940, 0.7106, 0.6980, 0.6900, 0.7286, 0.7200, 0.7138]),
        (SIGNAL, [0.9141, 0.8170, 1.0416, 0.7974, 0.8536, 0.8553, 0.8580, 0.8636]),
    ],
    ids=["image", "signal"],
)
def test_a_version_of_the_bank_is_these_records(data: Any, sizes: list[float]) -> None:
    """Mean sizes of eight parts. Other numbers: another bank, for which `bank_version` must be raised, here and in looks.py."""
    found = np.abs(public_bank(data, 512, SimclrBank(name="simclr-bank").bank_seed, HOW)).mean(axis=1)
    assert SimclrBank(name="simclr-bank").bank_version == 2
    assert found.reshape(8, -1).mean(axis=1) == pytest.approx(sizes, abs=2e-4)


def test_it_is_embedded_part_by_part_and_outside_every_graph() -> None:
    weights = torch.ones(48, 3, requires_grad=True)
    bank = public_bank(IMAGE, 300, 1, HOW)
    found = embedded(bank, lambda shown: shown @ weights, torch.device("cpu"))
    assert not found.requires_grad
    torch.testing.assert_close(found, torch.from_numpy(bank.copy()).sum(dim=1, keepdim=True).expand(300, 3))


@BANKS
def test_the_keys_are_those_of_the_weights_that_the_round_is_given(task: str) -> None:
    """Though the weights move in the round, and the next round begins with other keys."""
    given = plan(("image", "resnet", task), 1)
    model: Any = build_model(given)
    first = model.still("keys").clone()
    begun: Any = copy.deepcopy(model)
    start = to_vector(model) + np.float32(0.01)
    load_vector(begun, start)
    train_round(
        model=model, patients=synthetic_patients(given.data, 30), plan=given, nominal_size=9000, start=start, first_step=0,
        total_steps=4, state=None, speed=SpeedSpec(chunk=8),
    )  # fmt: skip
    assert not np.array_equal(to_vector(model), start)
    assert model.still("keys").numpy() == pytest.approx(directions(begun, model.bank), abs=1e-5)
    assert not torch.allclose(model.still("keys"), first, atol=1e-4)
    model.start_round()
    assert model.still("keys").numpy() == pytest.approx(directions(model, model.bank), abs=1e-5)


@BANKS
def test_what_stands_still_is_no_parameter_and_goes_where_the_model_goes(task: str) -> None:
    model: Any = build_model(plan(("image", "resnet", task), 1))
    names = [name for name, _ in model.named_parameters()]
    heads = {"encoder", "project", *(["prototypes"] if task in ("swav-bank", "dino-bank") else [])}
    assert {name.split(".")[0] for name in names} == heads and not list(model.buffers())
    standing = {name: value.clone() for name, value in model.__dict__["standing"].items()}
    load_vector(model, np.full_like(to_vector(model), 0.25))
    assert all(torch.equal(value, standing[name]) for name, value in model.__dict__["standing"].items())
    doubled = copy.deepcopy(model).double()
    assert all(value.dtype == torch.float64 for value in doubled.__dict__["standing"].values())
    slow = [parameter for part in doubled.__dict__.get("slow", ()) for parameter in part.parameters()]
    assert bool(slow) == (task != "simclr-bank")
    assert all(parameter.dtype == torch.float64 and not parameter.requires_grad for parameter in slow)


class Naive(SimclrBankModel):
    """The bank in one pass with the patients' looks, through the weights in training: what must not be."""

    def losses(self, views: Views) -> Tensor:
        shown = views["shown"]
        rows = shown.reshape(-1, shown.shape[-1])
        together = self.looking(torch.cat((rows, torch.from_numpy(self.bank.copy()))))
        looking, keys = together[: len(rows)].reshape(*shown.shape[:-1], -1), together[len(rows) :]
        right = (looking * self._partner(views, looking)).sum(dim=-1, keepdim=True)
        chance = (torch.cat((right, looking @ keys.t()), dim=-1) / self.temperature).log_softmax(dim=-1)
        return averaged(-paired(chance[..., :1], views).squeeze(-1), views)


def _both(units: int) -> tuple[SimclrBankModel, SimclrBankModel, Any, Views]:
    """An honest model, a naive one at the same weights, their plan, and views of synthetic units."""
    given = plan(("image", "resnet", "simclr-bank"), 1)
    honest = build_model(given)
    assert isinstance(honest, SimclrBankModel)
    naive = copy.deepcopy(honest)
    naive.__class__ = Naive
    patients = synthetic_patients(given.data, units)
    coins = 1.0 - np.random.default_rng(1).random((units, honest.coins))
    return honest, naive, given, honest.draw(patients, np.arange(units), coins)


def test_rows_of_a_bank_in_the_trainable_path_collect_the_gradients_of_all_patients() -> None:
    honest, naive, _, views = _both(4)
    other = {name: view.clone() for name, view in views.items()}
    other["shown"][0] = other["shown"][0].flip(-1)
    apart = []
    for model in (honest, naive):
        one, two = ([row[3] for row in BookkeepingEngine(model).rows(given)] for given in (views, other))
        size = float(torch.cat([row.flatten() for row in one]).norm())
        apart.append(float(torch.cat([(a - b).flatten() for a, b in zip(one, two, strict=True)]).norm()) / size)
    assert apart[0] <= 1e-5 and apart[1] > 1e-3


def test_a_bank_in_the_trainable_path_is_refused() -> None:
    """Its losses are those of single units, so that only the gradients tell."""
    honest, naive, given, views = _both(4)
    rows = [_flat(BookkeepingEngine(model).rows(views)) for model in (honest, naive)]
    check_alone(honest, views, rows[0])
    with pytest.raises(PrivacyError, match="gradients of a batch are not those of single units"):
        check_alone(naive, views, rows[1])
    with pytest.raises(ConfigError, match="engine bookkeeping does not fit this model"):
        check_isolation(given, speed=SpeedSpec(chunk=4, engine="bookkeeping"), model=naive)
    # What takes each unit for itself has a pass of the bank for each: then its gradient is its own, at that price.
    engine = choose_engine(naive, synthetic_views(naive, given.data), "auto")
    assert engine.name == "vmap" and "single units" in engine.reason


def _flat(rows: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([row.flatten(1) for row in rows], dim=1)
