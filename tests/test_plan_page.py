"""The plan of docs/plan.md is a whole one, within a new hospital's limits, and the page names every key that a plan has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from client.policy import DEFAULT_POLICY, SitePolicy, check_plan, largest_share
from ssl_core.config import AggregationSpec, PrivacySpec, RoundsSpec, SiteSpec, StudyPlan, TrainingSpec, parse
from ssl_core.privacy.accountant import Schedule, epsilon
from ssl_core.privacy.statement import rounded_up
from ssl_core.spec.strict import StrictModel

PAGE = (Path(__file__).parents[1] / "docs" / "plan.md").read_text(encoding="utf-8")
PARTS: dict[str, type[StrictModel]] = {
    "[privacy]": PrivacySpec, "[training]": TrainingSpec, "[rounds]": RoundsSpec, "[aggregation]": AggregationSpec,
    "[[sites]]": SiteSpec, "": StudyPlan,
}  # fmt: skip


def written() -> StudyPlan:
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return parse(StudyPlan, tomllib.loads(found[1]), "docs/plan.md")


def test_the_plan_is_whole_and_a_new_hospitals_policy_allows_it() -> None:
    plan, policy = written(), parse(SitePolicy, tomllib.loads(DEFAULT_POLICY), "policy")
    for site in plan.sites:
        check_plan(plan, policy, site.name)
    assert largest_share(plan, corrupt=1) <= policy.max_weight_share
    schedule = Schedule(
        noise_multiplier=plan.privacy.noise_multiplier, sampling_rate=plan.privacy.sampling_rate, steps=plan.total_steps
    )
    cost = epsilon([schedule], plan.privacy.delta)
    assert f"epsilon {rounded_up(cost, 2)} at delta 1e-5" in PAGE and cost < policy.max_epsilon


def rows() -> dict[str, str]:
    """Keys of each part as the table names them, and what it says of them."""
    found, part = dict[str, str](), ""
    for line in PAGE.split("|---|---|---|\n")[1].split("\n\n")[0].splitlines():
        section, keys, said = line.strip("|").split(" | ")
        part = section.strip(" `") or part
        found[part] = found.get(part, "") + f"{keys} {said}\n"
    return found


@pytest.mark.parametrize("part", PARTS)
def test_every_key_of_a_plan_stands_in_the_table_with_its_default(part: str) -> None:
    table = rows()
    parts = {"data", "encoder", "objective", *(name.strip("[]") for name in PARTS if name)}
    for name, field in PARTS[part].model_fields.items():
        if part == "" and name in parts:
            assert f"[{name}]" in table or f"[[{name}]]" in table
            continue
        assert f"`{name}`" in table[part], name
        if not field.is_required() and field.default is not None and name != "format":
            assert _as_written(field.default) in table[part], (name, field.default)


def _as_written(value: Any) -> str:
    """As TOML has it, whole numbers without a point."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and value < 1e5 else str(int(value) if isinstance(value, float) else value)
