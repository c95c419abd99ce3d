"""Step 9 of 12: when a hospital's rule (`auto_approve_epsilon`) may answer, and what its records bring up leaves to a person.

Comes in: a site's state folder. Goes out: whether the rule is paused, in the file `rule-paused`, which holds the hash of the
plan that paused it. A check of the records decides between "approved" and "waiting", which the operator sees, and "waiting" is
not charged: so whoever makes plans could ask one question about the records after another. After the first "waiting" that they
brought about the rule answers no plan, and reads nothing, until a person has approved a study or removed the file.
"""

from __future__ import annotations

from pathlib import Path

from client.home import SiteHome
from ssl_core.chain import write_durably


def _file(home: SiteHome) -> Path:
    return home.root / "rule-paused"


def pause_rule(home: SiteHome, plan_hash: str) -> None:
    """Durable before the answer leaves."""
    write_durably(_file(home), f"{plan_hash}\n".encode())


def resume_rule(home: SiteHome) -> None:
    """A person has approved a study."""
    _file(home).unlink(missing_ok=True)


def paused_by(home: SiteHome) -> str | None:
    """The hash of the plan that paused the rule; None while it is on, or where the policy has none."""
    if not home.policy.auto_approve_epsilon or not _file(home).is_file():
        return None
    return _file(home).read_text().strip()


def pause_in_words(home: SiteHome) -> str | None:
    """What a person reads of it, or None."""
    plan_hash = paused_by(home)
    if plan_hash is None:
        return None
    return (
        f"paused: the check of the records left study {plan_hash[:12]} to a person (logs/executor.log says why), and further "
        f"answers would tell the operator of them; on again once a person approves a study, or removes {_file(home)}"
    )
