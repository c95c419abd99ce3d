from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server.exchange import LocalExchange
from server.rounds import run_study
from ssl_core.parcel import OutgoingKind, Parcel

Seen = dict[str, list[tuple[str, int, int]]]


def record(federation: Any, plan_hash: str) -> Seen:
    """Run the study; for each site the (kind, body length, vector length) of all that it said."""
    seen: Seen = {name: [] for name in federation.names}

    def wrapped(name: str, service: Callable[[Parcel], Parcel]) -> Callable[[Parcel], Parcel]:
        def handle(parcel: Parcel) -> Parcel:
            answer = service(parcel)
            assert answer.kind in set(OutgoingKind)
            seen[name].append((str(answer.kind), len(answer.body), 0 if answer.vector is None else answer.vector.size))
            return answer

        return handle

    exchange = LocalExchange({name: wrapped(name, handler) for name, handler in federation.services().items()})
    run_study(federation.operator.root, plan_hash, exchange)
    return seen


def receipts(federation: Any, name: str) -> list[tuple[str, int]]:
    return [(e.body["kind"], e.body["bytes"]) for e in federation.site(name).chain.entries("receipt")]


def variants(source: Path) -> dict[str, Callable[[], None]]:
    table = source.parent / "reports.csv"
    lines = table.read_text().splitlines(keepends=True)
    header, rows = lines[0], lines[1:]

    def without_one() -> None:
        table.write_text(header + "".join(row for row in rows if not row.startswith("p7,")))

    def with_a_huge_one() -> None:
        table.write_text(header + "".join(rows) + "p999," + "word " * 5000 + "\n")

    def a_tenth() -> None:
        table.write_text(header + "".join(row for row in rows if row.split(",")[0] in {"p0", "p1", "p2", "p3"}))

    def ten_times() -> None:
        table.write_text(header + "".join(f"c{copy}{row}" for copy in range(10) for row in rows))

    return {
        "without-one": without_one,
        "with-a-huge-one": with_a_huge_one,
        "a-tenth": a_tenth,
        "ten-times": ten_times,
    }


def test_the_patients_of_a_site_change_no_type_count_length_or_charge(
    make_federation: Callable[..., Any], tmp_path: Path
) -> None:
    federation = make_federation(4)
    plan_hash = federation.launch()
    # Frozen before the approval: afterwards the declared files are not looked at any more.
    frozen = tmp_path.parent / f"{tmp_path.name}-frozen"
    shutil.copytree(tmp_path, frozen)
    federation.invite_and_approve(plan_hash)
    units = {len(federation.study("site-a", plan_hash).patients)}
    expected = record(federation, plan_hash)
    assert {kind for said in expected.values() for kind, _, _ in said} == {
        "APPROVAL", "KEYS_ACK", "UPLOAD", "UNMASK", "CLOSE_ACK",
    }  # fmt: skip
    assert receipts(federation, "site-a") == [(kind, length + 4 * vector) for kind, length, vector in expected["site-a"]]
    charged = [e.body for e in federation.site("site-a").chain.entries("commit")]
    for name in variants(tmp_path / "data" / "site-a" / "source.toml"):
        shutil.rmtree(tmp_path)
        shutil.copytree(frozen, tmp_path)
        variants(tmp_path / "data" / "site-a" / "source.toml")[name]()
        federation.invite_and_approve(plan_hash)
        units.add(len(federation.study("site-a", plan_hash).patients))
        assert record(federation, plan_hash) == expected, name
        assert [e.body for e in federation.site("site-a").chain.entries("commit")] == charged
    assert units == {40, 39, 41, 4, 400}, "the sites trained on other patients each time"
