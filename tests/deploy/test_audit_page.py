"""`choral audit` for people: the page, the printed tables, and exit codes. The attacks themselves: tests/ssl_core/audit."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console
from tests_commands import refused, run

from deploy.audit_page import render_audit, write_audit
from deploy.audit_table import print_audit
from ssl_core.audit import report as audit
from ssl_core.audit.checks import Check
from ssl_core.audit.inversion import run_inversion
from ssl_core.audit.mechanism import MechanismAudit
from ssl_core.audit.membership import infer_membership
from ssl_core.audit.one_run import OneRun
from ssl_core.audit.report import NOT_PROVEN, AuditReport
from ssl_core.audit.training import TrainingAudit
from ssl_core.errors import PrivacyError


def one(bound):
    return OneRun(
        name="one release",
        claim=4.0,
        delta=1e-5,
        canaries=1000,
        guesses=500,
        correct=400,
        confidence=0.95,
        bound=bound,
        cap=5.1,
    )


@pytest.fixture(scope="module")
def report():
    scores = np.random.default_rng(0).random(1000)
    membership = infer_membership(scores, np.arange(1000) % 2 == 0, delta=1e-5)
    return AuditReport(
        mechanism=MechanismAudit((one(1.25),), (one(5.0),)),
        checks=(Check("noise scale", True, "1.002 sigma C", "0.981 .. 1.019 <b>"),),
        training=TrainingAudit(run=one(0.75), control=one(5.0), membership=membership, control_membership=membership),
        inversion=run_inversion(),
        seconds=12.0,
    )


def test_the_page_is_one_file_without_scripts_or_addresses_and_escapes_values(report, tmp_path):
    write_audit(report, tmp_path / "new" / "audit.html")
    page = (tmp_path / "new" / "audit.html").read_text()
    assert page == render_audit(report)
    assert "default-src 'none'" in page and "<script" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:image/png;base64,)""", page) and "http" not in page.replace(
        "http-equiv", ""
    )
    assert "&lt;b&gt;" in page and "1.019 <b>" not in page
    for words in ("PASS", "1.25", "5.10", "0.75", "1000", NOT_PROVEN[0]):
        assert words in page


def test_the_pictures_on_the_page_are_those_of_the_report(report):
    shown = [
        matplotlib.image.imread(io.BytesIO(base64.b64decode(data)), format="png")[:, :, 0]
        for data in re.findall(r'src="data:image/png;base64,([^"]+)"', render_audit(report))
    ]
    assert len(shown) == 5 * len(report.inversion)
    trial = report.inversion[0]
    for image, value in zip(shown, [trial.true, *trial.found.values()], strict=False):
        low, high = trial.true.min(), trial.true.max()
        np.testing.assert_allclose(image, np.clip((value - low) / (high - low), 0, 1), atol=0.01)


def printed(report):
    console = Console(width=160, record=True, file=io.StringIO())
    print_audit(console, report)
    return console.export_text()


def test_the_printed_tables_hold_m_r_confidence_cap_and_what_is_not_proven(report):
    text = printed(report)
    for words in (
        "1000",
        "500",
        "95%",
        "5.10",
        "delta 1e-05",
        "What this does not prove",
        "AUROC",
        "noise / 10",
        "Audit: PASS",
    ):
        assert words in text, words
    assert "AUROC" not in printed(replace(report, training=None)) and "--quick" in printed(replace(report, training=None))


def test_a_failure_is_named_and_comes_with_what_to_do(report):
    bad = replace(report, checks=(replace(report.checks[0], passed=False),))
    text = printed(bad)
    assert "Audit: FAIL - caught by: noise scale" in text and "Do not train" in text
    assert "caught by: noise scale" in render_audit(bad)


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_exit_codes_and_json(report, monkeypatch, tmp_path, passed, code):
    asked = []

    def run_audit(*, quick):
        asked.append(quick)
        return replace(report, checks=(replace(report.checks[0], passed=passed),))

    monkeypatch.setattr(audit, "run_audit", run_audit)
    found = run("audit", "--quick", "--json", "--html", tmp_path / "audit.html")
    assert found.exit_code == code and asked == [True]
    assert json.loads(found.stdout)["outcome"] == ("PASS" if passed else "FAIL")
    assert (tmp_path / "audit.html").is_file()
    assert "Audit:" in run("audit").output and asked == [True, False]


def test_inconclusive_is_no_error(report, monkeypatch):
    low = replace(report, training=replace(report.training, run=replace(report.training.run, cap=3.5)))
    monkeypatch.setattr(audit, "run_audit", lambda *, quick: low)
    found = run("audit")
    assert found.exit_code == 0 and "Audit: INCONCLUSIVE" in found.output


def test_a_broken_audit_is_an_error_without_a_result(monkeypatch):
    def broken(*, quick):
        raise PrivacyError("the audit is broken: a tenth of the noise went unseen", field="negative control", value=1, limit=4)

    monkeypatch.setattr(audit, "run_audit", broken)
    refused(run("audit"), "audit is broken", "negative control")
