"""Several holders of one authority, hospitals and an operator, all made by the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests_commands import run
from typer.testing import Result


def done(result: Result) -> Any:
    """What a command with `--json` said, once it succeeded."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@dataclass
class Hospitals:
    """Folders under `root`: holders, sites, an operator; `prints` are the fingerprints that people read out."""

    root: Path
    holders: dict[str, Path] = field(default_factory=dict)
    sites: dict[str, Path] = field(default_factory=dict)
    prints: dict[str, str] = field(default_factory=dict)

    @classmethod
    def agreed(cls, root: Path, *sites: str) -> Self:
        """Holders north, south and west of whom two sign, `sites` that pinned their card, and an operator."""
        made = cls(root)
        for name in ("north", "south", "west"):
            made.holder(name)
        card = made.agree(2, "north", "south", "west")
        for name in sites:
            made.site(name, card)
        done(run("operator", "init", "--home", made.operator, "--json"))
        return made

    @property
    def operator(self) -> Path:
        return self.root / "operator"

    @property
    def server_card(self) -> Path:
        return self.operator / "server-card.json"

    def holder(self, name: str) -> Path:
        """`choral authority init`: one key."""
        self.holders[name] = self.root / f"holder-{name}"
        done(run("authority", "init", "--home", self.holders[name], "--json"))
        return self.holders[name]

    def agree(self, threshold: int, *names: str, at: tuple[str, ...] | None = None) -> Path:
        """`choral authority init FILES --threshold K` at every holder (or `at` some), the files in another order at each."""
        cards = []
        for turn, name in enumerate(at or names):
            files = [self.holders[n] / "authority.pub" for n in (*names[turn:], *names[:turn])]
            facts = done(
                run("authority", "init", *files, "--threshold", threshold, "--home", self.holders[name], "--yes", "--json")
            )
            cards.append(Path(facts["card"]))
        assert len({card.read_bytes() for card in cards}) == 1
        return cards[0]

    def site(self, name: str, card: Path, *more: object) -> Path:
        """`choral site init`."""
        self.sites[name] = self.root / name
        made = done(run("site", "init", name, "--authority", card, "--home", self.sites[name], "--json", *more))
        self.prints[name] = made["fingerprint"]
        return self.sites[name]

    def requests(self, *names: str) -> list[Path]:
        return [self.sites[name] / "join-request.json" for name in names]

    def sign(self, holder: str, *words: object) -> Result:
        """`choral authority sign` at one holder, who says yes."""
        return run("authority", "sign", *words, "--home", self.holders[holder], "--yes", "--json")

    def accept(self, site: str, *words: object) -> Result:
        """`choral site accept`: one command."""
        return run("site", "accept", *words, "--home", self.sites[site], "--json")

    def pairs(self, *names: str) -> list[str]:
        """NAME FINGERPRINT ... as they were compared by telephone."""
        return [word for name in names for word in (name, self.prints[name])]
