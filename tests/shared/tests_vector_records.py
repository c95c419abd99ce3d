"""A federation of the product's state machines that writes down all that is said and drawn: what round vectors are made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from tests_federation import SPEC, Federation, make_params, seeded

from ssl_core.secure_sum.codec import encode

SPOKEN = ("begin", "upload", "consent", "unmask", "backup", "close", "checkpoint", "void")


def identity_seed(name):
    """The Ed25519 seeds of the tests' federation."""
    return hashlib.sha256(f"identity {name}".encode()).digest()


class Heard:
    """A site whose messages are logged; what is not spoken passes through."""

    def __init__(self, site, place, log):
        self._site, self._place, self._log = site, place, log

    def __getattr__(self, verb):
        method = getattr(self._site, verb)
        if verb not in SPOKEN:
            return method

        def heard(*arguments):
            reply = method(*arguments)
            if verb != "upload":
                values = {"values": numbers(arguments[1])} if verb == "checkpoint" else {}
                self._say("server", arguments[0], to=self._place, **values)
            if isinstance(reply, bytes):
                self._say(self._place, reply)
            elif verb == "upload":
                self._say(self._place, reply[0], vector=reply[1].tolist())
            return reply

        return heard

    def _say(self, sender, message, **more):
        say(self._log, sender, message, **more)


def say(log, sender, message, *, to=None, **beside):
    """One line of the log; a message that went to several stands once, in the place of the first."""
    same = [line for line in log if line["from"] == sender and line["message"] == message.hex()]
    if same and to is not None:
        same[0]["to"].append(to)
    elif not same:
        line = {"from": sender} | ({} if to is None else {"to": [to]}) | {"message": message.hex()}
        log.append(line | beside)


@dataclass
class Recorded(Federation):
    """`draws` [site][...]: every call of a site's randomness, in order; `log`: what was said in the open round.

    `epoch`: that of the key set; `told`: that of the last key set which stands in a round of the file.
    """

    log: list = field(default_factory=list)
    epoch: int = 1
    told: int = 0

    def __post_init__(self):
        self.draws = [[] for _ in self.params.members]
        super().__post_init__()
        for place, name in enumerate(self.names):
            self.sites[name] = Heard(self.sites[name], place, self.log)

    def make_site(self, name, *kept):
        self.randoms[name] = self._recorded(name)
        return super().make_site(name, *kept)

    def _recorded(self, name):
        source, draws = seeded(f"vector {name}"), self.draws[self.params.index(name)]

        def draw(count):
            value = source(count)
            draws.append(value.hex())
            return value

        return draw

    def study(self):
        """What all rounds share: parameters, the secrets that make every byte reproducible, the initial model."""
        return {
            "params": encode(self.params).hex(),
            "server_seed": identity_seed("server").hex(),
            "site_seeds": [identity_seed(name).hex() for name in self.names],
            "draws": self.draws,
            "initial": numbers(self.initial),
            "aggregation": SPEC.model_dump(mode="json", include={"optimizer", "learning_rate", "momentum", "betas", "epsilon"}),
        }

    def renew(self):
        """The next epoch: every site offers a new key, and the server goes on under the new key set."""
        self.epoch += 1
        self.keyset = self.role.make_keyset(self.params, {name: self.sites[name].offer_keys(self.epoch) for name in self.names})
        for name in self.names:
            self.sites[name].accept_keys(self.keyset)
        self.coordinator = self.make_coordinator()

    def keys(self):
        """The key set, where it was renewed since the last call."""
        if self.told == self.epoch:
            return {}
        self.told = self.epoch
        return {"epoch": self.epoch, "keyset": self.keyset.hex()}

    def said(self):
        """The messages since the last call."""
        lines = list(self.log)
        self.log.clear()
        return lines


def recorded(count, **changes):
    """A federation whose grid is not made of whole numbers."""
    params = make_params(count, **({"dimension": 9, "update_range": 0.25} | changes))
    return Recorded(params, initial=np.array([(at - 3) / 7 for at in range(params.dimension)], np.float32))


def small_updates(federation, round):
    """float32 [P] a site: awkward fractions, both signs, and at the end of each one value beyond the range."""
    size, limit, count = federation.params.dimension, federation.params.update_range, len(federation.names)
    updates = {}
    for at, name in enumerate(federation.names):
        values = [limit * (2 * place / (size - 1) - 1) * (at + 1) / (count + round) for place in range(size)]
        values[-1] = limit * (1.5 if at % 2 else -1.25)
        updates[name] = np.array(values, np.float32)
    return updates


def numbers(values):
    """Floats as JSON keeps them exactly: the shortest decimal of the double."""
    return [float(value) for value in values]
