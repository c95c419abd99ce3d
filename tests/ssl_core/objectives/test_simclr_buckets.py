"""SimCLR in buckets: the loss against a loop over looks, what bad records and lonely units count, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests_tasks import plan
from tests_transformer import randomise

from ssl_core.data.patients import Patients, group
from ssl_core.encoders.resnet import ResNet
from ssl_core.errors import PrivacyError
from ssl_core.objectives.augment import Augmentation
from ssl_core.objectives.base import BucketModel
from ssl_core.objectives.build import MODELS, build_model
from ssl_core.objectives.simclr_buckets import SimclrBucketsModel
from ssl_core.privacy.gradients import reach_of
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.spec.data import ImageData
from ssl_core.spec.objective import clip_line

DATA = ImageData(kind="image", height=8, width=8, records_per_patient=2)
HOW = Augmentation(crop=0.4, gain=0.2, noise=0.1, flip=False)
BUCKETED = pytest.mark.parametrize("kinds", sorted(k for k in MODELS if k[2] == "simclr-buckets"), ids=" ".join)


def _model(data: ImageData = DATA, temperature: float = 0.5, width: int = 8) -> SimclrBucketsModel:
    encoder = ResNet(data, size="nano")
    made = SimclrBucketsModel(data, encoder, bucket_size=8, projector=width, temperature=temperature, how=HOW)
    randomise(made)
    return made


def _views(model: SimclrBucketsModel, patients: Patients, seed: int = 4) -> dict[str, torch.Tensor]:
    coins = 1.0 - np.random.default_rng(seed).random((len(patients), model.coins))
    return model.draw(patients, np.arange(len(patients)), coins)


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 64)).astype(np.float32)


def _people(images: np.ndarray) -> Patients:
    return group([f"p{row // 2:02d}" for row in range(len(images))], images)


def _gradient(model: Any, views: dict[str, torch.Tensor]) -> torch.Tensor:
    found = torch.autograd.grad(model(views), list(model.parameters()))
    return torch.cat([part.reshape(-1) for part in found])


def _loop(model: SimclrBucketsModel, views: dict[str, torch.Tensor], temperature: float) -> float:
    """Equation 1 of the paper by hand: one look at a time, the looks of other units one by one below."""
    with torch.no_grad():
        made = model.project(model.encoder(views["shown"])).double().numpy()
    rows = made / np.sqrt((made**2).sum(axis=2, keepdims=True) + 1e-6)
    real = views["real"].numpy() == 1
    units = [unit for unit in range(len(rows)) if real[unit].any()]
    if len(units) < 2:
        return 0.0
    total = 0.0
    for unit in units:
        mine = []
        for record in np.flatnonzero(real[unit]):
            for look in (0, 1):
                z = rows[unit, 2 * record + look]
                near = math.exp(float(z @ rows[unit, 2 * record + 1 - look]) / temperature)
                far = sum(
                    math.exp(float(z @ rows[other, 2 * theirs + side]) / temperature)
                    for other in units
                    if other != unit
                    for theirs in np.flatnonzero(real[other])
                    for side in (0, 1)
                )
                mine.append(-math.log(near / (near + far)))
        total += sum(mine) / len(mine)
    return total / len(units)


@pytest.mark.parametrize("spoilt", [(), (0,), (0, 1), (0, 1, 5), tuple(range(8)), tuple(range(10))])
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_the_loss_is_that_of_a_loop_over_the_looks_at_real_records(spoilt: tuple[int, ...], value: float) -> None:
    model, images = _model(), _images(10)
    images[list(spoilt)] = value
    views = _views(model, _people(images))
    loss = model(views)
    assert loss.shape == () and loss.dtype == torch.float32
    assert loss.item() == pytest.approx(_loop(model, views, 0.5), rel=1e-5, abs=1e-7)
    assert bool(_gradient(model, views).any()) == (len(spoilt) < 8)


def test_a_unit_without_a_real_record_is_as_if_it_were_not_there() -> None:
    model, images = _model(), _images(10)
    images[4:6] = 0.0
    views = _views(model, _people(images))
    rest = {name: view[[0, 1, 3, 4]] for name, view in views.items()}
    apart = _gradient(model, views) - _gradient(model, rest)
    assert float(apart.norm()) <= 1e-5 * float(_gradient(model, rest).norm())


def test_one_unit_alone_has_an_exact_zero_gradient() -> None:
    model = _model()
    views = {name: view[:1] for name, view in _views(model, _people(_images(4))).items()}
    assert model(views).item() == 0.0 and not _gradient(model, views).any()


def test_the_patients_of_a_bucket_do_meet() -> None:
    """What makes this task another: each unit's look is in the loss of the others."""
    model = _model()
    views = _views(model, _people(_images(10)))
    changed = {name: view.clone() for name, view in views.items()}
    changed["shown"][0] += 1.0
    fewer = {name: view[1:] for name, view in views.items()}
    losses = [model(given).item() for given in (views, changed, fewer)]
    assert len(set(losses)) == 3


def test_a_row_of_the_draw_is_of_its_own_unit_and_coins() -> None:
    model, patients = _model(), _people(_images(12))
    coins = 1.0 - np.random.default_rng(1).random((6, model.coins))
    whole = model.draw(patients, np.arange(6), coins)
    some = np.array([4, 0, 3])
    assert all(torch.equal(view, whole[name][some]) for name, view in model.draw(patients, some, coins[some]).items())
    nobody = model.draw(patients, some[:0], coins[:0])
    assert all(len(view) == 0 for view in nobody.values())
    for extreme in (2.0**-53, 1.0):
        shown = model.draw(patients, np.arange(6), np.full((6, model.coins), extreme))["shown"]
        assert torch.isfinite(shown).all()
    with pytest.raises(PrivacyError, match="coins do not fit"):
        model.draw(patients, np.arange(6), coins[:1])


def test_a_bucket_has_no_losses_of_its_units() -> None:
    model = _model()
    with pytest.raises(PrivacyError, match="one loss together"):
        model.losses(_views(model, _people(_images(4))))


def test_the_words_on_the_approval_and_the_reach_of_the_noise_are_of_the_same_tasks() -> None:
    for kinds in sorted(MODELS):
        given = plan(kinds, 1)
        model = build_model(given)
        assert (reach_of(model) == 2) == isinstance(model, BucketModel) == bool(clip_line(given.objective))
        assert reach_of(model) in (1, 2)
    assert "16 patients" in clip_line(plan(("image", "vit", "simclr-buckets"), 1).objective)


@BUCKETED
@pytest.mark.parametrize("records", [1, 4])
def test_every_encoder_trains_by_it(kinds: tuple[str, str, str], records: int) -> None:
    given = plan(kinds, records)
    model = build_model(given)
    views = model.draw(synthetic_patients(given.data, 5), np.arange(5), 1.0 - np.random.default_rng(2).random((5, model.coins)))
    gradients = torch.autograd.grad(model(views), list(model.parameters()))
    assert all(bool(part.isfinite().all()) for part in gradients) and sum(bool(part.any()) for part in gradients) > 5


def test_it_learns_to_tell_patients_apart() -> None:
    """Guessing among the other look and 2 x 15 looks at others has the surprise ln 31 = 3.43."""
    rng = np.random.default_rng(4)
    data = ImageData(kind="image", height=16, width=16)
    rates, time = rng.uniform(0.2, 2.5, (16, 2, 1)), np.arange(16)
    waves = np.sin(time * rates[:, 0])[:, :, None] * np.cos(time * rates[:, 1])[:, None, :]
    images = (waves / waves.std(axis=(1, 2), keepdims=True)).reshape(16, 256).astype(np.float32)
    patients = group([f"p{number:02d}" for number in range(16)], images)
    model = _model(data, temperature=0.2, width=16)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre, half_width = model.init_range(name)
            parameter.copy_(centre + half_width * (2 * torch.rand(parameter.shape) - 1))
    adam, losses = torch.optim.Adam(model.parameters(), lr=3e-3), []
    for step in range(80):
        loss = model(_views(model, patients, step))
        losses.append(loss.item())
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert losses[0] > 2.0 and np.mean(losses[-5:]) < 0.6 * losses[0]
