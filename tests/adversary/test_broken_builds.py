"""Row 29: the audit of the product on the build as it is, and on builds broken on purpose; one check names each fault."""

from __future__ import annotations

import pytest
from tests_broken_builds import ALSO, BUILDS, attack


@pytest.mark.parametrize("build", BUILDS)
def test_row_29_c_each_broken_build_is_caught_by_the_check_that_the_table_names(build):
    sabotage, wanted = BUILDS[build]
    report = attack(sabotage)
    expected = () if wanted is None else (wanted, *ALSO.get(build, ()))
    assert report.failures == expected
    assert report.outcome == ("FAIL" if expected else "PASS")
    assert all(run.cap > 4.0 >= run.claim > 3.99 for run in report.runs), "ruling 23: a claim of 4, a cap above it"
    assert all(control.outcome == "FAIL" for control in report.controls)
