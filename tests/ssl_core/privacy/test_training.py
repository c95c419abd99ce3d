from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ssl_core.config import SpeedSpec, StudyPlan
from ssl_core.data.patients import Patients
from ssl_core.encoders.vector import to_vector
from ssl_core.errors import ConfigError, PrivacyError, StateError
from ssl_core.privacy import noise, training
from ssl_core.privacy.descent import learning_rate
from ssl_core.privacy.optimizer import PrivateOptimizer
from ssl_core.privacy.synthetic import synthetic_patients
from ssl_core.privacy.training import OptimizerState, RoundResult, replay_round, train_round
from ssl_core.trust.random import UnitCoins

MakePlan = Callable[..., StudyPlan]
OPTIMIZERS = [
    {"optimizer": "adam", "learning_rate": 0.05},
    {"optimizer": "adam", "learning_rate": 0.05, "keep_state": False},
    {"optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.9},
    {"optimizer": "sgd", "learning_rate": 0.5},
]


def _train(model: Any, plan: StudyPlan, patients: Patients, **changes: Any) -> RoundResult:
    arguments: dict[str, Any] = {
        "model": model,
        "patients": patients,
        "plan": plan,
        "nominal_size": 40,
        "start": to_vector(model),
        "first_step": 0,
        "total_steps": 20,
        "state": None,
        "speed": SpeedSpec(chunk=4),
    }
    return train_round(**(arguments | changes))


@pytest.mark.parametrize("training", OPTIMIZERS)
def test_a_study_can_be_replayed_bit_by_bit_from_its_noised_gradients(
    tiny: Any, make_plan: MakePlan, patients: Patients, training: dict[str, Any]
) -> None:
    plan = make_plan(training=training)
    weights = to_vector(tiny)
    state: OptimizerState | None = None
    again: OptimizerState | None = None
    for first in (0, 5, 10):
        seen: list[np.ndarray] = []
        real = _train(tiny, plan, patients, start=weights, first_step=first, state=state, tap=seen.append)
        replayed = replay_round(
            model=tiny, plan=plan, gradients=seen, start=weights, first_step=first, total_steps=20, state=again
        )
        assert len(seen) == plan.rounds.steps_per_round
        assert real.delta.tobytes() == replayed.delta.tobytes()
        mine, theirs = real.state.to_arrays(), replayed.state.to_arrays()
        assert mine.keys() == theirs.keys() and all(mine[k].tobytes() == theirs[k].tobytes() for k in mine)
        assert real.state.steps == (first + 5 if plan.training.keep_state else 5)
        weights = (weights + real.delta).astype(np.float32)
        state, again = real.state, replayed.state


def test_a_kept_state_changes_what_follows(tiny: Any, make_plan: MakePlan, patients: Patients) -> None:
    plan, start, seen = make_plan(), to_vector(tiny), list[np.ndarray]()
    state = _train(tiny, plan, patients, tap=seen.append).state
    common = {"model": tiny, "plan": plan, "gradients": seen, "start": start, "first_step": 5, "total_steps": 20}
    fresh, kept = replay_round(state=None, **common), replay_round(state=state, **common)
    assert not np.array_equal(fresh.delta, kept.delta)


def test_every_step_has_coins_of_its_own(tiny: Any, make_plan: MakePlan, patients: Patients) -> None:
    honest, drawn = tiny.draw, list[tuple[tuple[int, ...], dict[int, bytes]]]()

    def watched(given: Patients, index: np.ndarray, uniforms: np.ndarray) -> Any:
        if given is not patients:
            return honest(given, index, uniforms)  # synthetic ones, on which the engine is chosen
        drawn.append((tuple(index), {int(i): row.tobytes() for i, row in zip(index, uniforms, strict=True)}))
        return honest(given, index, uniforms)

    tiny.draw = watched
    plan = make_plan(privacy={"sampling_rate": 0.5})
    # A size for which all patients at once are one part of a sample, so that each draw is a step.
    for _ in range(2):
        _train(tiny, plan, patients, speed=SpeedSpec(chunk=64), nominal_size=2 * len(patients))
    assert len(drawn) == 10 and len({index for index, _ in drawn}) == 10
    coins = [row for _, rows in drawn for row in rows.values()]
    assert len(set(coins)) == len(coins)


def test_noise_and_sample_differ_each_time(tiny: Any, make_plan: MakePlan, patients: Patients) -> None:
    plan, start = make_plan(), to_vector(tiny)
    first, second = (_train(tiny, plan, patients, start=start).delta for _ in range(2))
    assert (first != second).all() and (first != 0).all()


class Half:
    """Coins, or a stream, that give the same each time."""

    @classmethod
    def fresh(cls) -> Half:
        return cls()

    def uniform(self, *given: Any) -> np.ndarray:
        return np.full(given[0] if len(given) == 1 else (len(given[0]), given[-1]), 0.5)


def test_no_step_is_released_with_coins_or_a_stream_that_are_not_ours(
    tiny: Any, make_plan: MakePlan, patients: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first step, or from the third on, with what came before it released and nothing after."""
    plan, seen = make_plan(), list[np.ndarray]()
    for owner, name in ((training, "UnitCoins"), (noise, "FreshStream")):
        with monkeypatch.context() as patch, pytest.raises(PrivacyError, match="not ours"):
            patch.setattr(owner, name, Half)
            _train(tiny, plan, patients, tap=seen.append)
    assert seen == []
    honest, coins = PrivateOptimizer.release, iter([UnitCoins.fresh(), UnitCoins.fresh(), Half()])

    def release(self: PrivateOptimizer, number: int, tap: Any = None) -> None:
        if number == 2:
            monkeypatch.setattr(self._noise, "_stream", Half())
        honest(self, number, tap)

    with monkeypatch.context() as patch, pytest.raises(PrivacyError, match="noise source is not ours"):
        patch.setattr(PrivateOptimizer, "release", release)
        _train(tiny, plan, patients, tap=seen.append)
    assert len(seen) == 2
    with monkeypatch.context() as patch, pytest.raises(PrivacyError, match="coins are not ours"):
        patch.setattr(UnitCoins, "fresh", lambda: next(coins))
        _train(tiny, plan, patients, tap=seen.append)
    assert len(seen) == 4


def test_a_round_begins_at_the_weights_that_it_is_given(tiny: Any, make_plan: MakePlan, patients: Patients) -> None:
    """What stands still within a round (objectives/round_start.py) is taken once, of those weights."""
    start, seen = to_vector(tiny) + np.float32(0.125), list[np.ndarray]()
    tiny.start_round = lambda: seen.append(to_vector(tiny))
    _train(tiny, make_plan(), patients, start=start)
    assert sum(np.array_equal(one, start) for one in seen) == 1 and np.array_equal(seen[-1], start)


def test_a_round_of_another_number_of_steps_gives_no_result(
    tiny: Any, make_plan: MakePlan, patients: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = PrivateOptimizer.release
    monkeypatch.setattr(PrivateOptimizer, "release", lambda self, number, tap: honest(self, number, tap) if number else None)
    with pytest.raises(PrivacyError, match=r"another number of steps.*value: 4"):
        _train(tiny, make_plan(), patients)


def test_sizes_of_the_hospital_change_nothing_that_is_public(
    tiny: Any, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """True size from none to 10 x nominal: same divisor, steps, rates, shapes, and groups of a sample (ruling 16)."""
    plan, start = make_plan(), to_vector(tiny)
    found = set()
    grouped: set[int] = set()
    parted = training.batches

    def parts(*args: Any, groups: int, size: int) -> Any:
        grouped.add(groups)
        return parted(*args, groups=groups, size=size)

    monkeypatch.setattr(training, "batches", parts)
    release = PrivateOptimizer.release

    def watched(self: PrivateOptimizer, number: int, tap: Any = None) -> None:
        release(self, number, tap)
        public.append((number, self.divisor, self.releases, self.original_optimizer.param_groups[0]["lr"]))

    monkeypatch.setattr(PrivateOptimizer, "release", watched)
    everyone = synthetic_patients(plan.data, 400)
    for size in (0, 4, 39, 40, 41, 400):
        public: list[tuple[Any, ...]] = []
        seen: list[np.ndarray] = []
        result = _train(tiny, plan, everyone.take(np.arange(size)), start=start, tap=seen.append)
        shapes = tuple((g.shape, g.dtype.str) for g in [*seen, result.delta, *result.state.moments.values()])
        found.add((tuple(public), shapes, result.state.steps))
    assert len(found) == 1
    assert [number for number, *_ in next(iter(found))[0]] == [0, 1, 2, 3, 4]
    assert {divisor for _, divisor, *_ in next(iter(found))[0]} == {0.25 * 40}
    assert len(grouped) == 1


def test_a_patient_with_values_that_are_not_finite_stops_nothing(tiny: Any, make_plan: MakePlan, patients: Patients) -> None:
    plan = make_plan(privacy={"sampling_rate": 1.0})
    records = patients.records.copy()
    records[patients.offsets[3] : patients.offsets[4]] = np.nan
    spoilt = Patients(patients.units, patients.tags, patients.offsets, records)
    seen: list[np.ndarray] = []
    assert np.isfinite(_train(tiny, plan, spoilt, tap=seen.append).delta).all()
    assert np.isfinite(seen).all()


def test_every_objective_trains(make_plan: MakePlan, kind: dict[str, Any]) -> None:
    from ssl_core.objectives.build import build_model

    plan = make_plan(kind)
    model, seen = build_model(plan), list[np.ndarray]()
    result = _train(model, plan, synthetic_patients(plan.data, 30), tap=seen.append)
    assert len(seen) == 5 and all((gradient != 0).all() for gradient in seen)
    # By rounding a weight comes back to where it was, once in some forty million.
    assert result.delta.dtype == np.float32 and np.count_nonzero(result.delta == 0) <= 2


def test_private_training_learns_when_the_noise_is_small(tiny: Any, make_plan: MakePlan) -> None:
    """Not a measure of quality: sign, scale and schedule of the step are right."""
    plan = make_plan(
        privacy={"sampling_rate": 0.5, "noise_multiplier": 0.3}, training={"optimizer": "adam", "learning_rate": 0.02}
    )
    patients = synthetic_patients(plan.data, 2000)
    # One direction in common, so that there is something to learn.
    records = (patients.records[:, :1] * np.linspace(-1, 1, 16, dtype=np.float32)).astype(np.float32)
    patients = Patients(patients.units, patients.tags, patients.offsets, records)
    views = tiny.draw(patients, np.arange(2000), np.full((2000, 17), 0.7))

    def loss() -> float:
        with torch.no_grad():
            return float(torch.vmap(tiny)(views).mean())

    before, weights, state = loss(), to_vector(tiny), None
    for first in range(0, 60, 5):
        result = _train(
            tiny, plan, patients, nominal_size=2000, start=weights, first_step=first, total_steps=60, state=state,
            speed=SpeedSpec(chunk=256),
        )  # fmt: skip
        weights, state = (weights + result.delta).astype(np.float32), result.state
    assert loss() < 0.5 * before


def test_the_state_survives_a_file_and_refuses_what_does_not_fit(tiny: Any, make_plan: MakePlan, patients: Patients) -> None:
    plan = make_plan()
    state = _train(tiny, plan, patients).state
    buffer = io.BytesIO()
    np.savez(buffer, **state.to_arrays())
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    again = OptimizerState.from_arrays(arrays)
    assert again.steps == state.steps == 5 and again.optimizer == "adam"
    assert all(np.array_equal(again.moments[name], moment) for name, moment in state.moments.items())
    with pytest.raises(StateError, match="optimizer state"):
        OptimizerState.from_arrays({k: v for k, v in arrays.items() if k != "steps"})
    with pytest.raises(StateError, match="float32"):
        OptimizerState.from_arrays(arrays | {"adam.exp_avg": np.zeros(3)})
    other = make_plan(training={"optimizer": "sgd", "learning_rate": 0.1})
    with pytest.raises(ConfigError, match="not of this study"):
        _train(tiny, other, patients, state=state)
    short = OptimizerState("adam", 5, {name: moment[:-1] for name, moment in state.moments.items()})
    with pytest.raises(ConfigError, match="not of this study"):
        _train(tiny, plan, patients, state=short)


def test_a_model_with_a_buffer_or_wrong_weights_is_refused(tiny: Any, make_plan: MakePlan, patients: Patients) -> None:
    with pytest.raises(ConfigError, match="weights"):
        _train(tiny, make_plan(), patients, start=np.zeros(3, np.float32))
    start = to_vector(tiny)
    tiny.register_buffer("count", torch.zeros(1))
    with pytest.raises(PrivacyError, match="buffer"):
        _train(tiny, make_plan(), patients, start=start)


def test_threads_are_given_back_and_a_missing_device_is_named(tiny: Any, make_plan: MakePlan, patients: Patients) -> None:
    before = torch.get_num_threads()
    _train(tiny, make_plan(), patients, speed=SpeedSpec(chunk=4, threads=before + 1))
    assert torch.get_num_threads() == before
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="cuda"):
            _train(tiny, make_plan(), patients, speed=SpeedSpec(device="cuda"))


@pytest.mark.parametrize("training", [OPTIMIZERS[0], OPTIMIZERS[2]])
def test_kept_states_tell_what_the_masks_hide(
    tiny: Any, make_plan: MakePlan, patients: Patients, training: dict[str, Any]
) -> None:
    """What docs/privacy.md says of optimizer.npz, for rounds of one step: a state gives x, two give the noised gradient."""
    plan = make_plan(training=training)
    plan = plan.model_copy(update={"rounds": plan.rounds.model_copy(update={"steps_per_round": 1})})
    seen: list[np.ndarray] = []
    first = _train(tiny, plan, patients, tap=seen.append)
    second = _train(tiny, plan, patients, first_step=1, state=first.state, tap=seen.append)
    size = len(to_vector(tiny))
    if training["optimizer"] == "adam":
        names, keep, part = ["exp_avg", "exp_avg_sq"], 0.9, 0.1
    else:
        names, keep, part = ["momentum_buffer"], 0.9, 1.0
    assert sorted(second.state.to_arrays()) == sorted(["optimizer", "steps", *(f"{training['optimizer']}.{n}" for n in names)])
    assert all(moment.shape == (size,) for moment in second.state.moments.values())
    before, after = first.state.moments[names[0]], second.state.moments[names[0]]
    assert np.allclose((after - keep * before) / part, seen[1], rtol=1e-3, atol=1e-4)
    step = learning_rate(plan.training, 1, 20)
    if training["optimizer"] == "adam":
        spread = np.sqrt(second.state.moments["exp_avg_sq"] / (1 - 0.98**2)) + 1e-8
        after = after / (1 - 0.9**2) / spread
    assert np.allclose(-step * after, second.delta, rtol=1e-3, atol=1e-5)
