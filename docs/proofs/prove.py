"""`make proofs`: run every case, print what was found, and fail when anything differs from what is expected.

`--quick` leaves out the largest searches. Exit code 0 when all is as expected, 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Sequence
from functools import cache

from cases import CONTROLS, FIVE, FOUR, PROTOCOL, REDUNDANT, THREE, Case
from counts import count
from rules import Setting
from search import Found, Search

WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="bounded exhaustive search over the secure sum")
    parser.add_argument("--quick", action="store_true", help="without the largest searches")
    quick = bool(parser.parse_args(arguments).quick)
    failures = [
        *_section("The protocol: what can be computed are sums over a U's honest sites", PROTOCOL, quick),
        *_same_sums(quick),
        *_counts(),
        *_section("Controls: one rule broken, the attack must be found", CONTROLS, quick),
        *_section("Rules that the others make up for, here: no attack may be found", REDUNDANT, quick),
    ]
    print(f"\n{time.process_time():.0f} seconds of one core.", "All as expected." if not failures else "NOT AS EXPECTED:")
    for failure in failures:
        print(f"  {failure}")
    return 1 if failures else 0


@cache
def search(setting: Setting, *, essential: bool) -> Found:
    """One search, run once."""
    return Search(setting, essential=essential).run()


def _section(title: str, cases: Sequence[Case], quick: bool) -> list[str]:
    print(f"\n{title}\n\n{'case':60}{'states':>8}{'told':>8}  {'honest sites in a sum':23}result")
    failures = []
    for case in cases:
        if case.slow and quick:
            print(f"{case.name:60}{'':41}left out")
            continue
        found = search(case.setting, essential=case.essential)
        told = f"{found.told}{'*' if case.essential else ' '}"
        print(f"{case.name:60}{found.states:>8}{told:>9} {_sums(found):23}{_result(found)}", flush=True)
        if found.trace:
            words = f"{'; '.join(found.trace)}. {_learned(found)}"
            print(textwrap.fill(words, WIDTH, initial_indent="    ", subsequent_indent="    "))
        if found.fault != case.fault or case.sizes not in (None, found.sizes):
            failures.append(f"{case.name}: {_result(found)}, honest sites in a sum: {_sums(found)}")
    return failures


def _result(found: Found) -> str:
    if found.fault:
        return f"ATTACK: {found.fault}"
    return "holds" if max(map(len, found.sizes)) < 2 else "holds; but TWO SUMS in one round"


def _same_sums(quick: bool) -> list[str]:
    """The reduced search (*) against the full one, where both are run."""
    failures = []
    names = []
    for setting in (THREE, FOUR) if quick else (THREE, FOUR, FIVE):
        name = f"N = {setting.roster}"
        names.append(name)
        if search(setting, essential=False).sizes != search(setting, essential=True).sizes:
            failures.append(f"reduced and full search differ for {name}")
    verdict = "yes" if not failures else "NO"
    print(f"\n* reduced search (README). Does it see the same sums as the full one, {', '.join(names)}? {verdict}")
    return failures


def _counts() -> list[str]:
    found = count()
    print(
        f"Thresholds of every roster of 3 to 200 sites, every |C| allowed: {found.settings} settings, {found.unsafe} unsafe.\n"
        f"Two contexts, a sum in each: possible in {found.double} of {found.pairs} pairs of |C|, "
        f"in {found.double_with_all} of all N twice, in {found.double_of_roster} with t from N."
    )
    return ["a threshold is unsafe"] if found.unsafe or found.double_with_all or found.double_of_roster else []


def _sums(found: Found) -> str:
    """For each state's set of sums, the honest sites in each: "3, 2+2" is one sum of 3, or two of 2."""
    return ", ".join("+".join(map(str, sizes)) for sizes in sorted(found.sizes) if sizes) or "none"


def _learned(found: Found) -> str:
    if found.verdict is None:
        return ""
    known = [*({at} for at in sorted(found.verdict.alone)), *sorted(map(set, found.verdict.sums), key=sorted)]
    return "Known then: " + ", ".join(" + ".join(f"x{at + 1}" for at in sorted(sites)) for sites in known) + "."


if __name__ == "__main__":
    sys.exit(main())
