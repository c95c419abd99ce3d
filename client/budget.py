"""This site's budget: its ledger under the policy in force, and the cohort of patients that a study is charged to.

Comes in: a state folder, a study's hash and the records that were checked for it. Goes out: the ledger of a cohort; the
digest of the table of patients (ssl_core/privacy/cohorts.py), durable before the study is reserved. So a kill in between
binds patients to a cohort with nothing spent, never the reverse. Of who is known where, staff sees a number; it is in no
error, log or message. Raises `DataError`, `StateError`, `ChainError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.home import SiteHome
from ssl_core.errors import ConfigError, StateError
from ssl_core.privacy.ledger import RULE, Ledger
from ssl_core.privacy.ledger_log import utc_today
from ssl_core.privacy.statement import COHORT, SiteStatement

if TYPE_CHECKING:
    from ssl_core.data.patients import Patients

_INCLUDED = "units"


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


def census_line(home: SiteHome, cohort: str, patients: Patients) -> str:
    """For the person who approves: how many of the patients are known here, and where."""
    found = home.units.census(cohort, patients.tags)
    line = f"cohort {cohort}: {found.new} new patients, {found.known} known in it"
    return f"{line}, {found.elsewhere} of another cohort or of an earlier ledger: these stand in the way"


def include(home: SiteHome, study: str, cohort: str, patients: Patients) -> str:
    """Bind the patients to `cohort` for life; the table's digest, for the reservation. Refused: patients of another one."""
    _check_table(home, cohort)
    return home.units.include(cohort, study, patients.tags)


def include_again(home: SiteHome, study: str, cohort: str, patients: Patients) -> None:
    """The same for a study that is reserved: its records were read again, and new patients may be among them."""
    from ssl_core.data.source import read_source

    declared = read_source(home.source_path).declared.cohort
    if declared != cohort:
        raise StateError(
            "source declares another cohort than the study was approved for", field="cohort", value=declared, limit=cohort
        )
    home.chain.append(_INCLUDED, {"study": study, "cohort": cohort, "units": include(home, study, cohort, patients)})


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
