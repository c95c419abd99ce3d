"""This site's budget: its ledger under the policy in force, and the cohort of patients that a study is charged to.

Comes in: a state folder, a study's hash and the records that were checked for it. Goes out: the ledger of a cohort; the
digest of the table of patients (ssl_core/privacy/cohorts.py), durable before the study is reserved. So a kill in between
binds patients to a cohort with nothing spent, never the reverse. Of who is known where, and whose id differs from another in
spelling alone, staff sees a number; it is in no error, log or message. Raises `DataError`, `StateError`, `ChainError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from client.home import SiteHome
from ssl_core.data.patients import folded_id
from ssl_core.errors import ConfigError, DataError, StateError
from ssl_core.privacy.cohorts import Census, Tags
from ssl_core.privacy.ledger import RULE, Ledger
from ssl_core.privacy.ledger_log import utc_today
from ssl_core.privacy.statement import COHORT, SiteStatement
from ssl_core.trust.random import unit_tag

if TYPE_CHECKING:
    from ssl_core.data.patients import Patients

_INCLUDED = "units"
# As `folded_id` has it: 12 3456 and 123456, P-007 and P-7, P-12.0 and P-12 may well be different people.
_SPELLING = (
    "capitals, full-width characters, blanks or hyphens not between two digits, one of these for another there, "
    "zeros at the start before a letter or digit, .0 after digits alone"
)


def site_ledger(home: SiteHome, cohort: str = COHORT) -> Ledger:
    """The ledger of one cohort under the limit that the policy names now; a COMMIT needs no cohort."""
    policy = home.policy
    return Ledger(home.chain, max_epsilon=policy.max_epsilon, delta=policy.delta, cohort=cohort)


def site_statement(home: SiteHome) -> SiteStatement:
    """Every cohort that was ever charged, and the declared one."""
    ledger = site_ledger(home)
    declared, warnings = list[str](), list(ledger.clock_warnings())
    try:
        declared = [cohort_of(home)]
    except ConfigError as error:
        # What was spent is shown whatever became of the source.
        warnings.append(f"the declared source cannot be read: {error.problem}")
    cohorts = dict.fromkeys((*ledger.cohorts(), *declared)) or (COHORT,)
    return SiteStatement(
        site=home.config.name,
        date=utc_today().isoformat(),
        rule=RULE,
        cohorts=tuple(site_ledger(home, cohort).statement() for cohort in cohorts),
        warnings=tuple(warnings),
    )


def cohort_of(home: SiteHome, study: str | None = None) -> str:
    """The cohort that `study` was reserved for; else the one that the source declares, COHORT where there is no source."""
    from ssl_core.data.source import read_source

    for entry in home.chain.entries("reserve"):
        if entry.body["study"] == study:
            return str(entry.body["cohort"])
    return COHORT if home.config.source is None else read_source(home.source_path).declared.cohort


def take_census(home: SiteHome, cohort: str, patients: Patients) -> Census:
    """How many of the checked patients are known here, where, and how many ids are spelled like another."""
    return home.units.census(cohort, patients.tags, _folded(patients))


def census_lines(cohort: str, found: Census) -> list[str]:
    """For the person who approves; nobody else sees these numbers."""
    where = "of another cohort or of an earlier ledger"
    others = f"{found.elsewhere} {where}: these stand in the way" if found.elsewhere else f"none {where}"
    lines = [f"cohort {cohort}: {found.new} new patients, {found.known} known in it, {others}"]
    if found.alike_here:
        lines.append(
            f"WARNING: {found.alike_here} patient ids differ from another id of this source in spelling alone ({_SPELLING}). "
            "Whoever has two ids counts as two people here, and the limit does not hold for him."
        )
    if found.alike_before:
        lines.append(
            f"WARNING: {found.alike_before} patient ids differ in spelling alone ({_SPELLING}) from those of patients of "
            "earlier studies. Whoever had another id there gets a second whole budget."
        )
    if found.alike:
        lines.append("What to do: write each id as in the first export. Go on only if these are different people.")
    if found.uncompared:
        lines.append(
            f"{found.uncompared} patients were included by a version that wrote down no spellings: "
            "these ids were not compared with theirs."
        )
    if found.strangers:
        lines.append(
            "None of these patients is known here, though this hospital has earlier cohorts: right if all of them are new. "
            "If some are not, their ids were changed since, and each of them gets a second whole budget."
        )
    return lines


def check_for_rule(found: Census) -> None:
    """Of whatever `census_lines` tells a person beside the counts no rule decides: `DataError`, without a number."""
    reason = ""
    if found.alike:
        reason = "ids of this source differ from others in spelling alone"
    elif found.uncompared:
        reason = "ids of this source could not be compared with those that an older version of this software included"
    elif found.strangers:
        reason = "no patient of this source is known here, though this hospital has earlier cohorts"
    if reason:
        raise DataError(
            reason,
            field="patient ids",
            remedy="a person looks at the screen of choral site approve: right if nobody was ever included under another id",
        )


def include(home: SiteHome, study: str, cohort: str, patients: Patients, *, different_people: bool) -> str:
    """Bind the patients to `cohort` for life; the table's digest, for the reservation.

    Refused: patients of another one, and ids that are spelled like others', unless a person said `different_people`.
    """
    _check_table(home, cohort)
    return home.units.include(cohort, study, patients.tags, _folded(patients), different_people=different_people)


def _folded(patients: Patients) -> Tags:
    return np.frombuffer(b"".join(unit_tag(folded_id(unit)) for unit in patients.units), np.uint8).reshape(-1, 16)


def include_again(home: SiteHome, study: str, cohort: str, patients: Patients, *, different_people: bool) -> None:
    """The same for a study that is reserved: its records were read again, and new patients may be among them."""
    from ssl_core.data.source import read_source

    declared = read_source(home.source_path).declared.cohort
    if declared != cohort:
        raise StateError(
            "source declares another cohort than the study was approved for", field="cohort", value=declared, limit=cohort
        )
    units = include(home, study, cohort, patients, different_people=different_people)
    home.chain.append(_INCLUDED, {"study": study, "cohort": cohort, "units": units})


def _check_table(home: SiteHome, cohort: str) -> None:
    """With one cohort for ever there is nobody to mix up; before a second one, the table must be known to be whole."""
    reserved = [entry.body for entry in home.chain.entries("reserve")]
    if {body["cohort"] for body in reserved} <= {cohort}:
        return
    included = [*reserved, *(entry.body for entry in home.chain.entries(_INCLUDED))]
    if any(body.get("units") is None for body in included):
        raise StateError(
            "a study was approved before this site wrote down which patients it included",
            field="cohort",
            value=cohort,
            limit="the cohort of that study",
            remedy="keep one cohort; a second one could not be told from the first",
        )
    home.units.verify(body["units"] for body in included)
