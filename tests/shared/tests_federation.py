"""A whole federation of the sum's state machines in one process, with deterministic keys and randomness; rounds of it."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ssl_core.config import AggregationSpec
from ssl_core.model_update import GlobalModel, ServerState, weights_digest
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.coordinator import SecureSumCoordinator
from ssl_core.secure_sum.history import History, MemoryModels
from ssl_core.secure_sum.intake import check_ack
from ssl_core.secure_sum.memory import MemoryStore
from ssl_core.secure_sum.messages import Close, Header, Parts, Upload
from ssl_core.secure_sum.params import Member, SumParams
from ssl_core.secure_sum.plain import PlainCoordinator, PlainSite
from ssl_core.secure_sum.sealing import Route, seal
from ssl_core.secure_sum.site import SecureSumSite
from ssl_core.secure_sum.statements import (
    close_context,
    header_statement,
    parts_hash,
    parts_leaves,
    read_signed,
    sign,
    vector_hash,
)
from ssl_core.secure_sum.vault import Vault
from ssl_core.secure_sum.vector import mean_update
from ssl_core.trust.identity import Identity

SPEC = AggregationSpec(update_range=1.0, optimizer="fedavgm", learning_rate=0.5, momentum=0.5)


def identity_of(name: str) -> Identity:
    return Identity(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"identity {name}".encode()).digest()))


def seeded(name: str) -> Callable[[int], bytes]:
    """Deterministic bytes: SHA-256 of a name and a counter."""
    state = [0]

    def random(count: int) -> bytes:
        out = b""
        while len(out) < count:
            out += hashlib.sha256(f"{name} {state[0]}".encode()).digest()
            state[0] += 1
        return out[:count]

    return random


def make_params(count: int, *, dimension: int = 11, corrupt: int | None = None, **changes: object) -> SumParams:
    """Range = Q, so that the grid's step is 1 and whole numbers are encoded exactly."""
    members = tuple(
        Member(name=name, identity=identity_of(name).public, weight=1 + at % 3)
        for at, name in enumerate(f"site-{at:0{2 if count <= 100 else 3}d}" for at in range(count))
    )
    params = SumParams(
        session=hashlib.sha256(b"session").digest(),
        roster=hashlib.sha256(b"roster").digest(),
        members=members,
        corrupt=(count - 1) // 3 if corrupt is None else corrupt,
        server=identity_of("server").public,
        dimension=dimension,
        update_range=1.0,
        min_sites=3,
        max_rounds=20,
        backup=bool(changes.get("backup", True)),
    )
    params = replace(params, update_range=float(params.levels))
    return replace(params, **changes)


@dataclass
class Federation:
    """Sites, coordinator and stores; `losses` are names of sites that fall silent at a point of a round."""

    params: SumParams
    plain: bool = False
    initial: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.names = tuple(member.name for member in self.params.members)
        self.stores = {name: MemoryStore() for name in self.names}
        self.identities = {name: identity_of(name) for name in self.names}
        self.server = identity_of("server")
        self.randoms = {name: seeded(name) for name in self.names}
        if self.initial is None:
            self.initial = np.zeros(self.params.dimension, np.float32)
        self.now = GlobalModel(self.initial, ServerState.empty())
        self.models = {name: MemoryModels() for name in self.names}
        self.sites = {name: self.make_site(name) for name in self.names}
        offers = {name: site.offer_keys() for name, site in self.sites.items()}
        self.role = PlainCoordinator if self.plain else SecureSumCoordinator
        self.keyset = self.role.make_keyset(self.params, offers)
        for site in self.sites.values():
            site.accept_keys(self.keyset)
        self.coordinator = self.make_coordinator()
        self.last_close: bytes | None = None
        self.last_total: np.ndarray | None = None
        self.published: list[tuple[bytes, np.ndarray]] = []
        self.answers = 0

    @property
    def model(self) -> bytes:
        """Digest of the global model that the next round starts from."""
        return self.now.digest

    def make_site(
        self, name: str, store: MemoryStore | None = None, models: MemoryModels | None = None
    ) -> SecureSumSite | PlainSite:
        store, random = store or self.stores[name], self.randoms[name]
        if self.plain:
            return PlainSite(self.params, name, self.identities[name], store, random)
        return SecureSumSite(self.params, name, self.identities[name], store, self.history(name, models), random)

    def history(self, name: str, models: MemoryModels | None = None) -> History:
        """A site's own history, begun with the plan's weights."""
        history = History(self.params, SPEC, weights_digest(self.initial), models or self.models[name])
        history.begin(self.initial)
        return history

    def make_coordinator(self) -> SecureSumCoordinator | PlainCoordinator:
        return self.role(self.params, self.server, self.keyset)

    def restart(self, name: str) -> None:
        self.sites[name] = self.make_site(name)

    def begin(self, round: int, participants: Collection[str] | None = None, away: Collection[str] = ()) -> bytes:
        invited = sorted(participants or self.names)
        start = self.coordinator.start(round, invited, self.model, self.last_close)
        for name in invited:
            if name not in away:
                self.sites[name].begin(start, self.last_total)
        return start

    def upload(self, round: int, updates: dict[str, np.ndarray]) -> None:
        for name, update in updates.items():
            body, vector = self.sites[name].upload(round, update)
            assert self.coordinator.add_upload(name, body, vector)

    def agree(self, silent: Collection[str] = ()) -> None:
        if self.coordinator.fix_survivors():
            for name, request in self.coordinator.consent_requests().items():
                if name not in silent:
                    self.coordinator.add_consent(name, self.sites[name].consent(request))

    def unmask(self, silent: Collection[str] = ()) -> None:
        for name, request in self.coordinator.unmask_requests().items():
            if name not in silent:
                reply = self.sites[name].unmask(request)
                self.answers += 1
                self.coordinator.add_answer(name, reply)

    def relieve(self, silent: Collection[str] = ()) -> None:
        """BACKUP, when a survivor has not answered."""
        for name, request in self.coordinator.backup_requests().items():
            if name not in silent:
                self.coordinator.add_backup(name, self.sites[name].backup(request))

    def finish(self) -> bytes:
        """The server's step, and its CLOSE, not yet sent."""
        self.before = self.now
        self.now, self.last_total = self.now.after(self.coordinator.mean(), SPEC), self.coordinator.total()
        self.last_close = self.coordinator.close(self.now.digest, self.now.state.digest)
        self.published.append((self.last_close, self.last_total))
        return self.last_close

    def forged(self, total: np.ndarray) -> tuple[bytes, GlobalModel]:
        """The last CLOSE and its model, had this sum come out: what a server signs that lies without contradicting itself."""
        signed, body = read_signed(Close, self.last_close)
        weight = self.params.weight_of(body.survivors)
        model = self.before.after(mean_update(self.params, signed.context, total, weight=weight), SPEC)
        body = replace(body, total=vector_hash(total), model=model.digest, state=model.state.digest)
        return sign(self.server, signed.context, body), model

    def close(self, round: int, lost: Collection[str] = ()) -> bytes:
        """The server's step, CLOSE, and who takes it."""
        self.finish()
        for name in self.names:
            if name not in lost:
                self.take(name, self.sites[name].close(self.last_close, self.last_total))
        return self.last_close

    def take(self, name: str, ack: bytes) -> None:
        """Check a site's acknowledgement of the last CLOSE."""
        if not self.plain:
            close = read_signed(Close, self.last_close)[1]
            check_ack(close_context(self.params, close), close, self.params.members[self.params.index(name)], ack)

    def run(
        self,
        round: int,
        updates: dict[str, np.ndarray],
        *,
        before: Collection[str] = (),
        after: Collection[str] = (),
    ) -> np.ndarray:
        """A round with sites lost before or after their upload; returns the total."""
        self.begin(round)
        self.upload(round, {name: update for name, update in updates.items() if name not in before})
        self.agree(silent={*before, *after})
        self.unmask(silent={*before, *after})
        if not self.coordinator.answered:
            self.relieve()
        return self.coordinator.total()

    def whole_updates(self, seed: int, size: float = 1e6) -> dict[str, np.ndarray]:
        """Whole numbers that float32 holds exactly."""
        generator = np.random.default_rng(seed)
        size = min(size, float(self.params.levels))
        return {
            name: generator.integers(-int(size), int(size), self.params.dimension, endpoint=True).astype(np.float32)
            for name in self.names
        }

    def expected(self, updates: dict[str, np.ndarray], survivors: Collection[str]) -> list[int]:
        """The weighted sum in Python's own integers."""
        weights = {member.name: member.weight for member in self.params.members}
        return [sum(weights[name] * int(updates[name][at]) for name in survivors) for at in range(self.params.dimension)]


def altered(federation: Federation, at: int, *, parts=None, vector=None, signer=None, context=None, **header):
    """(name, UPLOAD, vector) of member `at`'s upload in `federation.sent`, changed and signed again by itself."""
    name = federation.names[at]
    body, kept = federation.sent[name]
    upload = decode(Upload, body)
    vector = kept if vector is None else vector
    changed = replace(decode(Parts, upload.parts), **(parts or {}))
    hashes = {"vector": vector_hash(vector), "parts": parts_hash(parts_leaves(changed))} | header
    context = context or upload.context
    signature = (signer or federation.identities[name]).sign(header_statement(context, hashes["vector"], hashes["parts"]))
    header = Header(**hashes, signature=signature)
    body = Upload(context=context, header=header, parts=encode(changed), ack=upload.ack)
    return name, encode(body), vector


def repacked(federation: Federation, at: int, holder: int, *, kind: str = "share", **changes: object):
    """(name, UPLOAD, vector) of member `at`, whose packet to `holder` was dealt otherwise.

    `content` is sealed in the place of what was; `blob` and `commitment` are put there as they are.
    """
    name = federation.names[at]
    upload = decode(Upload, federation.sent[name][0])
    packets = list(decode(Parts, upload.parts).packets)
    if "content" in changes:
        chain = Vault(federation.stores[name], federation.params.hash).chain(holder)
        route = Route(context=upload.context, sender=at, recipient=holder, kind=kind)
        changes["blob"] = seal(chain, route, changes.pop("content"), lambda count: bytes(count))
    packets[holder] = replace(packets[holder], **{kind: replace(getattr(packets[holder], kind), **changes)})
    federation.sent[name] = altered(federation, at, parts={"packets": tuple(packets)})[1:]
    return name, *federation.sent[name]


def refusals(*modules) -> set[str]:
    """Every sentence with which these modules refuse: first or second argument of `need` and of the errors."""
    phrases = set()
    for module in modules:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("need", "RoundVoid", "ProtocolError"):
                phrases |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return phrases


def signed_view(total: np.ndarray) -> list[int]:
    """Z_2^32 as signed integers."""
    return [int(value) for value in total.view(np.int32)]
