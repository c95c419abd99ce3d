"""Step 10 of 12: the server's Flower end: `GridExchange` asks sites over Flower; `app` is the ServerApp of a study.

Comes in: `app.main` gets a Grid and the run-config key `choral-plan` (the plan's hash, and nothing else, ruling 4);
CHORAL_HOME comes from the environment that flower-superexec passes on. Goes out: nothing through Flower; the round loop
`server.rounds.run_study` writes its results under CHORAL_HOME.

`GridExchange.ask` polls the grid itself, every 50 ms at first: Flower's own `send_and_receive` waits 3 s between looks, and its
error replies are final. Here an error reply means *not answered yet* (rulings 29, 30): the same parcel is pushed again.
Answers are pulled at most four at a time and handed on before the next, so memory does not grow with the sites.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.inflatable.inflatable_utils import pull_objects

from deploy.flower_env import shorten_pull_pause
from server.exchange import Done, OnReply, Patience, check_known
from server.study_lock import working_on
from server.superlink import PLAN_KEY, supernode_point
from ssl_core.errors import ConfigError, ProtocolError
from ssl_core.parcel import IncomingKind, Parcel, check_outgoing, from_plain, to_plain

_LOG = logging.getLogger("choral.server")
_FIELDS, _ARRAYS = "parcel", "arrays"
# A short answer is seen within 50 ms; while sites train for seconds, looking 20 times a second would cost the SuperLink
# a good part of a core that the sites of a loopback federation need.
_POLL_S, _POLL_GROWTH, _LONGEST_POLL_S = 0.05, 0.05, 0.25
_LOOK_S = 0.5
_BATCH = 4
# An earlier ServerApp of this study that Flower gave up ends at its next request, at the latest in a minute of heartbeats.
_HANDOVER_S = 60.0
# A message outlives the patience a little: an answer that is on its way then still arrives, harmlessly.
_TTL_MARGIN_S = 60.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run, or resume, the study whose plan hash the run-config names."""
    from server.rounds import run_study
    from server.study import supernode_keys

    plan_hash = context.run_config.get(PLAN_KEY)
    home = os.environ.get("CHORAL_HOME")
    if not isinstance(plan_hash, str) or not plan_hash:
        raise ConfigError("the run names no study plan", field=PLAN_KEY, remedy="start studies by choral operator launch")
    if not home:
        raise ConfigError("CHORAL_HOME is not set", remedy="start flower-superexec by choral operator start")
    exchange = GridExchange(grid, supernode_keys(Path(home), plan_hash))
    with working_on(Path(home) / "studies" / plan_hash, patience_s=_HANDOVER_S):
        run_study(Path(home), plan_hash, exchange)


class GridExchange:
    """An `Exchange` over Flower. `supernode_keys`: site name -> SuperNode public key, PEM or OpenSSH."""

    def __init__(self, grid: Grid, supernode_keys: Mapping[str, str]) -> None:
        shorten_pull_pause(pull_objects)
        self._grid = grid
        self._site_of = {supernode_point(key): site for site, key in supernode_keys.items()}
        if len(self._site_of) != len(supernode_keys):
            raise ConfigError("two sites have the same SuperNode key", field="supernode_keys")
        self._sites = dict(supernode_keys)

    def reachable(self) -> set[str]:
        """Names of the sites whose SuperNode is online."""
        return set(self._nodes())

    def ask(self, parcels: Mapping[str, Parcel], *, patience_s: float, on_reply: OnReply, done: Done) -> None:
        """See `server.exchange.Exchange.ask`."""
        check_known(parcels, self._sites)
        waiting = dict(parcels)
        pushed: dict[str, str] = {}
        patience = Patience(patience_s)
        next_look = 0.0
        asked = time.monotonic()
        while waiting and not done():
            idle = [site for site in waiting if site not in pushed.values() and patience.may_push(site)]
            if idle and time.monotonic() >= next_look:
                next_look = time.monotonic() + _LOOK_S
                nodes = self._nodes()
                for site in idle:
                    if site in nodes:
                        self._push(site, nodes[site], waiting[site], pushed, patience)
            for message in self._answers(list(pushed)):
                site = pushed.pop(message.metadata.reply_to_message_id, "")
                if not site:
                    continue
                answer = _read(site, waiting[site], message)
                if answer is None:
                    patience.failed(site)
                    continue
                del waiting[site]
                more = on_reply(site, answer)
                if done():
                    return
                if more is not None:
                    waiting[site] = more
            if patience.left_s == 0.0:
                return
            if waiting:
                time.sleep(min(_LONGEST_POLL_S, _POLL_S + _POLL_GROWTH * (time.monotonic() - asked)))

    def _nodes(self) -> dict[str, int]:
        try:
            nodes = list(self._grid.get_nodes())
        except httpx.TransportError as error:
            _LOG.warning("the SuperLink did not list its nodes: %s", type(error).__name__)
            return {}
        named = ((self._site_of.get(supernode_point(node.public_key)), node.node_id) for node in nodes)
        return {site: node_id for site, node_id in named if site is not None}

    def _push(self, site: str, node_id: int, parcel: Parcel, pushed: dict[str, str], patience: Patience) -> None:
        message = Message(_pack(parcel), node_id, "query", ttl=patience.left_s + _TTL_MARGIN_S)
        try:
            ids = list(self._grid.push_messages([message]))
        except httpx.TransportError as error:
            # Whether it was stored is unknown; a second delivery is harmless.
            _LOG.warning("a message to %s was not confirmed: %s", site, type(error).__name__)
            ids = []
        if ids and ids[0]:
            pushed[ids[0]] = site
        else:
            patience.failed(site)

    def _answers(self, ids: list[str]) -> Iterator[Message]:
        for first in range(0, len(ids), _BATCH):
            try:
                messages = list(self._grid.pull_messages(ids[first : first + _BATCH]))
            except httpx.TransportError as error:
                _LOG.warning("the SuperLink did not hand over answers: %s", type(error).__name__)
                return
            while messages:
                yield messages.pop(0)


def _read(site: str, question: Parcel, message: Message) -> Parcel | None:
    """The site's answer, or None where there is none yet: Flower's errors and unreadable replies."""
    if message.has_error():
        _LOG.warning("%s has not answered %s yet: Flower error %d", site, question.kind, message.error.code)
        return None
    try:
        answer = _unpack(message.content)
        check_outgoing(IncomingKind(question.kind), answer)
    except ProtocolError as error:
        _LOG.warning("%s answered %s unreadably: %s", site, question.kind, error)
        return None
    return answer


def _pack(parcel: Parcel) -> RecordDict:
    fields, arrays = to_plain(parcel)
    wrapped = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    return RecordDict({_FIELDS: ConfigRecord(dict(fields)), _ARRAYS: wrapped})


def _unpack(content: RecordDict) -> Parcel:
    if set(content) != {_FIELDS, _ARRAYS}:
        raise ProtocolError("a Flower message has unknown or missing records", limit=f"{_FIELDS}, {_ARRAYS}")
    fields, wrapped = content[_FIELDS], content[_ARRAYS]
    if not isinstance(fields, ConfigRecord) or not isinstance(wrapped, ArrayRecord):
        raise ProtocolError("a Flower message has records of wrong types")
    try:
        arrays = {name: np.asarray(array.numpy()) for name, array in wrapped.items()}
    except (TypeError, ValueError, EOFError, OSError) as error:
        raise ProtocolError("a Flower array cannot be read", value=type(error).__name__) from None
    return from_plain(fields, arrays)
