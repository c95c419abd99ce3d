"""Who may sign rosters: m keys that hospitals hold, of which k must sign (ruling 1). Every site pins it once, as a card.

Comes in: public keys (bytes [32]) and k, or a card file. Goes out: an `Authority`, the same for every order of the keys.

A card is text. One key alone, 64 hexadecimal digits, is an authority of its own (1 of 1), the `authority.pub` that
`choral authority init` writes. More keys stand under a line `threshold K`, sorted, one a line. Cards are not signed:
whoever could replace the card could replace its signatures, so people compare `fingerprint`, which covers keys and k.
Raises `ConfigError` for anything else, `TrustError` for keys and k that make no authority.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_core.errors import ConfigError, TrustError
from ssl_core.trust.identity import fingerprint

_KEY = re.compile(r"[0-9a-f]{64}")
_THRESHOLD = re.compile(r"threshold ([1-9][0-9]{0,5})")
_LABEL = b"choral/authority\x00"
_FORM = "one key of 64 hexadecimal digits, or a line 'threshold K' and several keys, one a line"


@dataclass(frozen=True, slots=True)
class Authority:
    """`keys` sorted, each once; `threshold` of them must sign. Made by `authority_of`."""

    keys: tuple[bytes, ...]
    threshold: int

    def __post_init__(self) -> None:
        if not self.keys or any(len(key) != 32 for key in self.keys) or list(self.keys) != sorted(set(self.keys)):
            raise TrustError("authority's keys must be 32 bytes each, sorted, each once", field="authorities")
        if not 1 <= self.threshold <= len(self.keys):
            raise TrustError(
                "an authority of so many keys cannot have this threshold",
                field="threshold",
                value=self.threshold,
                limit=f"1 to {len(self.keys)}",
                remedy="name how many of the holders must sign",
            )

    @property
    def text(self) -> str:
        """The card."""
        keys = "".join(f"{key.hex()}\n" for key in self.keys)
        return keys if len(self.keys) == 1 else f"threshold {self.threshold}\n{keys}"

    @property
    def fingerprint(self) -> str:
        """What people compare: of the key where it is the only one, else of the whole card."""
        return fingerprint(self.keys[0] if len(self.keys) == 1 else _LABEL + self.text.encode())

    @property
    def words(self) -> str:
        """Fingerprint, and k of m where there is more than one key."""
        return self.fingerprint if len(self.keys) == 1 else f"{self.fingerprint} ({self.threshold} of {len(self.keys)} keys)"

    def facts(self) -> dict[str, Any]:
        """For `--json` and tables."""
        return {
            "fingerprint": self.fingerprint,
            "threshold": self.threshold,
            "keys": [fingerprint(key) for key in self.keys],
        }


def authority_of(keys: Iterable[bytes], threshold: int) -> Authority:
    """The authority of these keys in any order; a key given twice raises `TrustError`."""
    return Authority(tuple(sorted(keys)), threshold)


def read_authority(path: Path) -> Authority:
    """A card file; raises `ConfigError` that names file and line."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("authority file cannot be read", field="path", value=str(path), limit=_FORM) from error
    written = [(number, line) for number, line in enumerate(lines, start=1) if line]
    threshold = _THRESHOLD.fullmatch(written[0][1]) if written else None
    keys = written[1:] if threshold else written
    for number, line in keys:
        if _KEY.fullmatch(line) is None:
            raise ConfigError(
                "authority file holds something else than keys", field=f"{path.name}, line {number}", limit=_FORM,
                remedy="use the file as the authority handed it out",
            )  # fmt: skip
    if not keys or (len(keys) > 1 and threshold is None):
        raise ConfigError(
            "authority file does not say how many of its keys must sign", field=path.name, value=f"{len(keys)} keys",
            limit=_FORM, remedy="use the card that choral authority init FILES --threshold K wrote",
        )  # fmt: skip
    return authority_of((bytes.fromhex(line) for _, line in keys), int(threshold[1]) if threshold else 1)
