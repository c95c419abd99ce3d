"""Rows 29, 32 and 33: training whose noise, clipping or sampling is not what the accountant counts on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests_broken_builds import fixed_batches, no_clipping, no_noise, quarter_noise
from torch import nn

from client.budget import site_ledger
from server.exchange import LocalExchange
from server.rounds import run_study
from ssl_core.config import SpeedSpec
from ssl_core.data.patients import Patients, group
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import PrivacyError
from ssl_core.objectives.build import build_model
from ssl_core.privacy import gradients, isolation, training
from ssl_core.privacy.bookkeeping import GAMMA
from ssl_core.privacy.gradients import PerUnitGradients
from ssl_core.privacy.sampling import draw_coins
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.privacy.training import train_round
from ssl_core.trust.random import UnitCoins

NOMINAL = 40


def trained(plan, patients, model=None):
    """(noised gradients [steps, P], sample size of each step, result) of one round."""
    model = build_model(plan) if model is None else model
    seen, drawn, sizes, draw = [], [], [], model.draw

    def watched(given, index, uniforms):
        if given is patients:  # and not the synthetic ones, on which the engine is chosen
            drawn.append(len(index))
        return draw(given, index, uniforms)

    def tap(gradient):
        seen.append(gradient)
        sizes.append(sum(drawn))
        drawn.clear()

    model.draw = watched
    result = train_round(
        model=model, patients=patients, plan=plan, nominal_size=NOMINAL, start=to_vector(model), first_step=0,
        total_steps=80, state=None, speed=SpeedSpec(chunk=1 << 12), tap=tap,
    )  # fmt: skip
    return np.stack(seen).astype(np.float64), sizes, result


def faults(make_plan):
    """What a mechanism audit finds by looking at the released gradients of crafted patients alone; empty when healthy."""
    found = []
    plan = make_plan()
    scale = plan.privacy.noise_multiplier * plan.privacy.max_grad_norm / (plan.privacy.sampling_rate * NOMINAL)
    nobody = synthetic_patients(plan.data, 1).take(np.arange(0))
    released, _, _ = trained(plan, nobody)
    squares, freedom = float(((released / scale) ** 2).sum()), released.size
    if not 1e-7 < stats.chi2.sf(squares, freedom) < 1 - 1e-7:
        found.append("noise")
    loud = synthetic_patients(plan.data, 40)
    loud = Patients(loud.units, loud.tags, loud.offsets, (1e4 * loud.records).astype(np.float32))
    quiet = make_plan(noise_multiplier=0.3, sampling_rate=1.0)
    bound = 40 * quiet.privacy.max_grad_norm / NOMINAL
    noise = 0.3 * quiet.privacy.max_grad_norm / NOMINAL
    released, _, _ = trained(quiet, loud)
    # Written so that a norm that is not finite is a fault too.
    if not np.linalg.norm(released, axis=1).max() <= bound + noise * (np.sqrt(released.shape[1]) + 8):
        found.append("clipping")
    many = synthetic_patients(plan.data, 400)
    sizes = [size for _ in range(10) for size in trained(plan, many)[1]]
    spread = np.var(sizes) * (len(sizes) - 1) / (400 * 0.25 * 0.75)
    if not 1e-7 < stats.chi2.sf(spread, len(sizes) - 1) < 1 - 1e-7 or abs(np.mean(sizes) - 100) > 6 * np.sqrt(75 / len(sizes)):
        found.append("sampling")
    return found


def test_row_29_the_healthy_mechanism_passes(make_plan):
    assert faults(make_plan) == []


@pytest.mark.parametrize(
    ("sabotage", "wanted"),
    [(no_noise, "noise"), (quarter_noise, "noise"), (no_clipping, "clipping"), (fixed_batches, "sampling")],
)
def test_row_29_b_each_fault_is_found(make_plan, monkeypatch, sabotage, wanted):
    sabotage(monkeypatch)
    assert wanted in faults(make_plan)


def test_row_32_an_empty_sample_is_noised_stepped_and_charged(plan, make_federation, monkeypatch):
    """Who skips it tells that it was empty. With nobody there every sample is; then real sites, whose samples are all empty."""
    nobody = synthetic_patients(plan.data, 1).take(np.arange(0))
    released, sizes, result = trained(plan, nobody)
    assert not any(sizes) and len(sizes) == len(released) == plan.rounds.steps_per_round == result.state.steps
    assert (released != 0).all() and len(np.unique(released)) > released.size * 0.9 and (result.delta != 0).all()
    federation = make_federation(3, patients=6)
    plan_hash = federation.launch()
    federation.invite_and_approve(plan_hash)
    monkeypatch.setattr(training, "poisson_sample", lambda tags, rate, coins: np.arange(0))
    run_study(federation.operator.root, plan_hash, LocalExchange(federation.services()))
    for name in federation.names:
        study = federation.study(name, plan_hash)
        rounds = study.plan.rounds
        entry = site_ledger(study.home).statement().entries[0]
        assert (entry.rounds_started, entry.steps_started) == (rounds.rounds, rounds.rounds * rounds.steps_per_round)
        assert entry.steps == study.plan.total_steps


def coupled(model):
    """A loss that subtracts the mean of the batch, as batch-centred objectives do."""
    honest = model.draw
    model.draw = lambda *given: {name: view - view.mean(dim=0) for name, view in honest(*given).items()}
    return model


def test_row_32_b_a_coupled_loss_is_refused_before_any_patient_is_read(make_plan):
    plan = make_plan()
    with pytest.raises(PrivacyError, match="another patient's gradient"):
        isolation.check_isolation(plan, speed=SpeedSpec(chunk=8), model=coupled(build_model(plan)))
    assert isolation.check_isolation(plan, speed=SpeedSpec(chunk=8)).greatest_contribution > 0.9


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(12), nn.BatchNorm1d(12, affine=False, track_running_stats=False)])
def test_row_32_c_batch_norm_is_refused_before_training_and_before_approval(plan, patients, layer):
    model = build_model(plan)
    model.encoder.norm = layer
    with pytest.raises(PrivacyError, match="BatchNorm1d"):
        isolation.check_isolation(plan, speed=SpeedSpec(), model=model)
    with pytest.raises(PrivacyError, match="BatchNorm1d"):
        trained(plan, patients, model)


def crowd(plan, images, seed=0):
    """Twelve patients; the one called "victim" has so many images, large ones."""
    others = synthetic_patients(plan.data, 11, seed=seed)
    owners = [unit for unit, count in zip(others.units, others.counts(), strict=True) for _ in range(count)]
    loud = 50 * np.random.default_rng(1).standard_normal((images, others.records.shape[1]))
    return group([*owners, *["victim"] * images], np.concatenate([others.records, loud.astype(np.float32)]))


@pytest.mark.parametrize("images", [1, 2, 7, 200])
def test_row_33_all_images_of_one_patient_move_the_step_by_at_most_c(make_plan, monkeypatch, images):
    """Finite difference of everything from the draw to the released gradient, noise off, with and without the patient."""
    no_noise(monkeypatch)
    plan = make_plan(max_grad_norm=0.01, sampling_rate=1.0)
    model, coins = build_model(plan), UnitCoins.fresh()
    monkeypatch.setattr(training.UnitCoins, "fresh", classmethod(lambda _: coins))
    everyone = crowd(plan, images)
    place = everyone.units.index("victim")
    index = np.arange(len(everyone))
    rows = PerUnitGradients(model).rows(model.draw(everyone, index, draw_coins(everyone.tags, coins, model.coins)))
    norms = gradients.row_norms(rows)
    assert len(norms) == 12 and norms[place] > 10 * 0.01, "one row a patient, far above C"
    released = []
    for kept in (index, np.delete(index, place)):
        seen, _, _ = trained(plan, everyone.take(kept), build_model(plan))
        released.append(seen[0] * NOMINAL)
    contribution = np.linalg.norm(released[0] - released[1])
    rounding = 2 * 2.0**-24 * np.linalg.norm(released[0])
    assert 0.01 * (1 - 2 * GAMMA) - rounding <= contribution <= 0.01 + rounding
