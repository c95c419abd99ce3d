"""One outcome of many parts, in an order that names the fault; the pictures of the inversion; JSON for scripts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ssl_core.audit.checks import Check
from ssl_core.audit.inversion import ARMS, Denoiser, invert, picture, plain_update, run_inversion, summed
from ssl_core.audit.mechanism import MechanismAudit
from ssl_core.audit.membership import infer_membership
from ssl_core.audit.one_run import OneRun
from ssl_core.audit.report import AuditReport
from ssl_core.audit.training import TrainingAudit


def run(**changes):
    body = {"name": "x", "claim": 4.0, "delta": 1e-5, "canaries": 1000, "guesses": 500, "correct": 400, "confidence": 0.95,
            "bound": 1.0, "cap": 5.0}  # fmt: skip
    return OneRun(**body | changes)


@pytest.fixture(scope="module")
def healthy():
    scores = np.arange(1000.0)
    membership = infer_membership(scores, scores % 2 == 1, delta=1e-5)
    training = TrainingAudit(
        run=run(name="t"), control=run(name="t", bound=5.0), membership=membership, control_membership=membership
    )
    return AuditReport(
        mechanism=MechanismAudit((run(), run()), (run(bound=4.5), run(bound=4.5))),
        checks=(Check("noise scale", True, "1", "1"), Check("sampling", True, "a", "b")),
        training=training,
        inversion=run_inversion(),
        seconds=1.0,
    )


def test_outcomes_and_what_names_the_fault(healthy):
    assert (healthy.outcome, healthy.failures) == ("PASS", ())
    bad_mechanism = MechanismAudit((run(), run(bound=4.1)), healthy.mechanism.controls)
    bad_checks = (replace(healthy.checks[0], passed=False), healthy.checks[1])
    both = replace(healthy, mechanism=bad_mechanism, checks=bad_checks)
    assert (both.outcome, both.failures) == ("FAIL", ("mechanism audit", "noise scale"))
    assert replace(healthy, checks=bad_checks, training=None).failures == ("noise scale",)
    certain = replace(healthy.training.membership, bound=4.2)
    worse = replace(healthy.training, run=run(bound=4.3), membership=certain)
    assert replace(healthy, training=worse).failures == ("training audit", "membership inference")


def test_a_cap_that_is_too_low_makes_it_inconclusive_unless_something_failed(healthy):
    low = replace(healthy, training=replace(healthy.training, run=run(cap=3.0)))
    assert low.outcome == "INCONCLUSIVE"
    assert replace(low, checks=(replace(healthy.checks[0], passed=False),)).outcome == "FAIL"


def test_json_holds_every_number_and_no_infinity(healthy):
    equal = replace(healthy.inversion[0], psnr=healthy.inversion[0].psnr | {"plain": float("inf")})
    text = json.dumps(replace(healthy, inversion=(equal,)).to_json(), allow_nan=False)
    body = json.loads(text)
    assert body["outcome"] == "PASS" and len(body["epsilon"]) == 3 and len(body["checks"]) == 2
    assert [row["negative_control"]["outcome"] for row in body["epsilon"]] == ["FAIL"] * 3
    assert {"canaries", "guesses", "cap", "claim", "confidence"} <= set(body["epsilon"][2])
    assert [row["arm"] for row in body["inversion"]] == list(ARMS) and body["inversion"][0]["median_psnr_db"] is None
    assert replace(healthy, training=None).to_json()["membership"] is None


def test_the_picture_is_exact_from_a_plain_update_blended_in_a_sum_and_lost_in_noise(healthy):
    for trial in healthy.inversion:
        assert trial.psnr["plain"] > 100 and trial.ssim["plain"] > 0.999999
        assert max(trial.ssim["noised"], trial.ssim["both"]) < 0.2
        assert trial.psnr["plain"] > trial.psnr["summed"] > max(trial.psnr["noised"], trial.psnr["both"])


def test_the_rings_sum_is_the_mean_to_a_step_of_its_grid():
    updates = [plain_update(Denoiser(1, 12), picture(seed, 12)) for seed in range(3)]
    found = summed(updates)
    assert np.abs(found - np.mean(np.stack(updates).astype(np.float64), axis=0)).max() < 16.0 / ((2**31 - 1) // 3)
    np.testing.assert_allclose(invert(summed(updates[:1]), 12), picture(0, 12), atol=1e-4)
