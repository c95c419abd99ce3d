"""Masked and plain roles offer one interface; the plain one keeps the same promises."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum.coordinator import SecureSumCoordinator
from ssl_core.secure_sum.journal import RoundState, SiteStore
from ssl_core.secure_sum.memory import MemoryStore
from ssl_core.secure_sum.plain import PlainCoordinator, PlainSite
from ssl_core.secure_sum.roles import SumCoordinator, SumSite
from ssl_core.secure_sum.site import SecureSumSite
from ssl_core.secure_sum.statements import round_of


@pytest.mark.parametrize(
    ("form", "role"),
    [
        (SecureSumSite, SumSite),
        (PlainSite, SumSite),
        (SecureSumCoordinator, SumCoordinator),
        (PlainCoordinator, SumCoordinator),
        (MemoryStore, SiteStore),
    ],
)
def test_role_is_offered_whole(form, role):
    wanted = {name: value for name, value in vars(role).items() if not name.startswith("_")}
    assert wanted
    for name, value in wanted.items():
        found = inspect.getattr_static(form, name)
        assert type(found) is type(value), name
        if not isinstance(value, property):
            assert inspect.signature(found) == inspect.signature(value), name
    own = inspect.signature(SecureSumSite.__init__).parameters.keys() - {"history"}
    assert own == inspect.signature(PlainSite.__init__).parameters.keys()


@pytest.fixture(params=[True, False], ids=["plain", "masked"])
def federation(kit, request):
    return kit.Federation(kit.make_params(5), plain=request.param)


def test_three_rounds_with_a_loss_and_a_void_one(kit, federation):
    for round, lost in ((1, ()), (2, (federation.names[2],))):
        updates = federation.whole_updates(round)
        total = federation.run(round, updates, before=lost)
        rest = [name for name in federation.names if name not in lost]
        assert kit.signed_view(total) == federation.expected(updates, rest)
        federation.close(round)
    federation.begin(3)
    message = federation.coordinator.void()
    for site in federation.sites.values():
        site.void(message)
        assert site.state(3) is RoundState.VOID
    updates = federation.whole_updates(4)
    assert kit.signed_view(federation.run(4, updates)) == federation.expected(updates, federation.names)


def test_promises(federation):
    updates = federation.whole_updates(1)
    name = federation.names[0]
    start = federation.begin(1)
    site = federation.sites[name]
    assert site.resend(1) is None and site.state(1) is RoundState.STARTED and site.state(2) is None
    body, vector = site.upload(1, updates[name])
    again, same = federation.make_site(name).upload(1, np.zeros_like(updates[name]))
    assert again == body and (same == vector).all()
    with pytest.raises(ProtocolError, match="used before"):
        site.begin(start, federation.last_total)
    federation.upload(1, updates)
    federation.agree()
    request = federation.coordinator.unmask_requests()[name]
    assert site.unmask(request) == federation.make_site(name).unmask(request)
    federation.unmask()
    close = federation.close(1)
    assert site.close(close, federation.last_total) == federation.make_site(name).close(close, federation.last_total)
    with pytest.raises(RoundVoid, match="over"):
        site.resend(1)
    with pytest.raises(ProtocolError, match="unknown"):
        site.resend(2)


def test_wrong_length_is_refused(federation):
    start = federation.coordinator.start(1, federation.names, federation.model, None)
    site = federation.sites[federation.names[0]]
    site.begin(start, federation.last_total)
    if isinstance(site, SecureSumSite):
        with pytest.raises(ProtocolError, match="update has another length"):
            site.upload(1, np.zeros(3, np.float32))
    with pytest.raises(ProtocolError, match="not a float32 vector"):
        site.upload(1, np.zeros(11))
    with pytest.raises(AssertionError, match="not finite"):
        site.upload(1, np.full(11, np.nan, np.float32))
    assert site.resend(1) is None


def test_restarted_before_upload_declines(federation):
    federation.begin(1)
    name = federation.names[0]
    with pytest.raises(RoundVoid, match="declines"):
        federation.make_site(name).upload(1, federation.whole_updates(1)[name])


def test_too_few_survivors_is_void(federation):
    updates = federation.whole_updates(1)
    federation.begin(1)
    federation.upload(1, {name: updates[name] for name in federation.names[:3]})
    with pytest.raises(RoundVoid, match="too few survivors; field: survivors; value: 3; limit: 4"):
        federation.coordinator.fix_survivors()


def test_ticket_tells_what_was_accepted(federation):
    start = federation.coordinator.start(1, federation.names[::-1], federation.model, None)
    ticket = federation.sites[federation.names[1]].begin(start, federation.last_total)
    assert ticket.round == 1 and ticket.participants == federation.names
    assert ticket.weight == federation.params.members[1].weight and len(ticket.context) == 32
    if not federation.plain:
        assert round_of(start) == 1
