"""What every party of one secure sum fixed before the first round; a site computes its thresholds from this alone.

Comes in: the signed study plan and the roster, as `SumParams`. Goes out: t (shares that open a self mask), m (least
survivors), Q (largest quantised value) and the hash that every round's context binds. Nothing here comes from a server.
Corruption c = floor((N-1)/3) is counted on the roster's N members, never on whom a server invites (ruling 5). For the
same reason t = floor((M+c)/2)+1 counts the M members of the study, not the participants C of a round: a server may begin
one round number with different C at different sites, and only 2t > M + c keeps two of them from both being opened
(docs/proofs). |C| >= 3c+1 bounds whom it may leave out.
W is the sum of all weights, so that |sum of w_i q_i| <= W Q < 2^(bits-1) never wraps (ruling 9).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from ssl_core.errors import ConfigError, ProtocolError
from ssl_core.secure_sum.codec import MAX_SITES, Fixed, Flag, Listing, Message, Nested, Real, Text, UInt, digest, encode
from ssl_core.trust.identity import check_public

LEAST_LEVELS = 1 << 10
RINGS = (16, 32)
LEAST_SITES = 3
MOST_BACKUP_SITES = 256


@dataclass(frozen=True, slots=True)
class Member(Message):
    """One site of the study: name, Ed25519 public key [32], public integer weight >= 1."""

    TAG: ClassVar[str] = "MEMBER"
    name: Annotated[str, Text(40)]
    identity: Annotated[bytes, Fixed(32)]
    weight: Annotated[int, UInt(4)]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """For n participants: `shares` = t answers open a self mask; `survivors` = m sites at least are summed."""

    shares: int
    survivors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SumParams(Message):
    """Frozen parameters of one session; `ConfigError` names what could give no safe sum.

    `session` [32] is the plan's hash, `roster` [32] the roster's; `members` are sorted by name and are named by their
    index in messages; `corrupt` is c of the whole roster; `dimension` is P; `update_range` R is public: updates are
    clipped to [-R, R] coordinate by coordinate, in the ring of 16 `bits` after the rotation; rounds are numbered 1 to
    `max_rounds`; `min_sites` bounds participants.
    `backup`: uploads carry shares of the pair elements (32 n^2 bytes), so that a second loss costs no round;
    `max_churn`: by how many sites the participants of two rounds that follow may differ, never by exactly one.
    """

    TAG: ClassVar[str] = "PARAMS"
    session: Annotated[bytes, Fixed(32)]
    roster: Annotated[bytes, Fixed(32)]
    members: Annotated[tuple[Member, ...], Listing(Nested(Member))]
    corrupt: Annotated[int, UInt(2)]
    server: Annotated[bytes, Fixed(32)]
    dimension: Annotated[int, UInt(4)]
    update_range: Annotated[float, Real()]
    min_sites: Annotated[int, UInt(2)]
    max_rounds: Annotated[int, UInt(4)]
    bits: Annotated[int, UInt(1)] = 32
    backup: Annotated[bool, Flag()] = True
    max_churn: Annotated[int, UInt(2)] = 0

    def __post_init__(self) -> None:
        names = [member.name for member in self.members]
        keys = [self.server, *(member.identity for member in self.members)]
        count = len(names)
        if names != sorted(set(names)):
            raise ConfigError("members are not sorted by name, each once", field="members")
        if len(set(keys)) != len(keys):
            raise ConfigError("one key stands for two parties of the sum", field="members")
        for key in keys:
            check_public(key)
        if not LEAST_SITES <= count <= MAX_SITES:
            raise ConfigError(
                "a sum needs at least three sites: of two, each would see the other's update",
                field="members",
                value=count,
                limit=f"{LEAST_SITES} to {MAX_SITES}",
            )
        if self.corrupt < (count - 1) // 3:
            raise ConfigError(
                "corrupt sites are counted on the roster, which has at least these members",
                field="corrupt",
                value=self.corrupt,
                limit=(count - 1) // 3,
            )
        if count < 3 * self.corrupt + 1:
            raise ConfigError(
                "too few sites of the roster take part for the corrupt ones that it must bear",
                field="members",
                value=count,
                limit=3 * self.corrupt + 1,
                remedy="invite more sites of the roster",
            )
        if not LEAST_SITES <= self.min_sites <= count:
            raise ConfigError(
                "least number of participants does not fit the members",
                field="min_sites",
                value=self.min_sites,
                limit=f"{LEAST_SITES} to {count}",
            )
        if min(member.weight for member in self.members) < 1:
            raise ConfigError("a weight is below 1", field="weight")
        if self.bits not in RINGS:
            raise ConfigError("ring has two legal sizes", field="bits", value=self.bits, limit=RINGS)
        if self.backup and count > MOST_BACKUP_SITES:
            raise ConfigError(
                "backup shares grow with the square of the sites and would not fit an upload",
                field="members",
                value=count,
                limit=MOST_BACKUP_SITES,
                remedy="set backup to false: a second loss in a round then waits or voids it",
            )
        if self.max_churn == 1:
            raise ConfigError(
                "participants that differ by exactly one site tell that site's update",
                field="max_churn",
                value=self.max_churn,
                limit="0, or at least 2",
            )
        if self.dimension < 1 or self.max_rounds < 1:
            raise ConfigError("dimension and max_rounds must be at least 1", field="dimension, max_rounds")
        if not 2.0**-64 <= self.update_range <= 2.0**64:
            raise ConfigError(
                "update range is not a positive number of a sane size",
                field="update_range",
                value=self.update_range,
                limit="2^-64 to 2^64",
            )
        if self.levels < LEAST_LEVELS:
            raise ConfigError(
                "weights leave too coarse a grid: Q is too small",
                field="Q",
                value=self.levels,
                limit=LEAST_LEVELS,
                remedy=f"declare sizes so round that the weights add up to at most {self._heaviest(self.bits)}"
                + (f', or set bandwidth to "full": at most {self._heaviest(32)}' if self.rotated else ""),
            )
        encode(self)

    @property
    def levels(self) -> int:
        """Q = floor((2^(bits-1) - 1) / W): quantised coordinates lie in [-Q, Q]."""
        return ((1 << (self.bits - 1)) - 1) // self.weight_of(range(len(self.members)))

    @property
    def rotated(self) -> bool:
        """Whether updates are rotated before they are quantised (rotation.py): in the 16-bit ring, always."""
        return self.bits == 16

    @property
    def word(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The type of the ring's words, uint32 or uint16."""
        return np.dtype(f"u{self.bits // 8}")

    @property
    def hash(self) -> bytes:
        """SHA-256 [32] of the parameters."""
        return digest("params", encode(self))

    def thresholds(self, participants: int) -> Thresholds:
        """t and m for that many participants; `ProtocolError` below 3c+1, where too few honest sites would be in a sum."""
        if participants < 3 * self.corrupt + 1:
            raise ProtocolError(
                "no threshold is safe for so few participants",
                field="participants",
                value=participants,
                limit=3 * self.corrupt + 1,
            )
        shares = (len(self.members) + self.corrupt) // 2 + 1
        return Thresholds(shares, max(LEAST_SITES, shares, self.corrupt + 2))

    def index(self, name: str) -> int:
        """The member's place in the list; `ConfigError` when there is none of that name."""
        for place, member in enumerate(self.members):
            if member.name == name:
                return place
        raise ConfigError("site is not a member of this sum", field="site", value=name)

    def names(self, sites: Iterable[int]) -> tuple[str, ...]:
        """Names of the members at these places."""
        return tuple(self.members[place].name for place in sites)

    def weight_of(self, sites: Iterable[int]) -> int:
        """Sum of the weights at these places."""
        return sum(self.members[place].weight for place in sites)

    @staticmethod
    def _heaviest(bits: int) -> int:
        return ((1 << (bits - 1)) - 1) // LEAST_LEVELS
