"""Evidence: any third party checks it from the parameters alone; what honest parties say never makes any."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_core.errors import ProtocolError, RoundVoid
from ssl_core.secure_sum import sealing
from ssl_core.secure_sum.codec import decode, encode
from ssl_core.secure_sum.evidence import (
    AgreementOf,
    Evidence,
    HeaderOf,
    HeadOf,
    Kind,
    PacketOf,
    ProvenFault,
    accused,
    evidence_of,
    proves,
)
from ssl_core.secure_sum.keys import make_offer
from ssl_core.secure_sum.messages import (
    AnswerHead,
    Backup,
    BackupHead,
    Close,
    Consent,
    Header,
    Offer,
    Parts,
    Proof,
    Start,
    Unmask,
    Upload,
    Void,
)
from ssl_core.secure_sum.statements import (
    close_context,
    head_statement,
    header_statement,
    parts_hash,
    parts_leaves,
    read_signed,
    sign,
    start_context,
    start_round,
    survivors_statement,
)
from ssl_core.secure_sum.vault import Vault
from ssl_core.trust.identity import Secret

ZERO = bytes(32)


class Scene:
    """Seven sites; round 1 loses the last before its upload; every message that the server sent is in `said`."""

    def __init__(self, kit, count=7):
        self.kit = kit
        self.federation = federation = kit.Federation(kit.make_params(count))
        self.params, self.server = federation.params, federation.server
        self.start = federation.begin(1)
        self.context = read_signed(Start, self.start)[0].context
        self.sent = {name: federation.sites[name].upload(1, u) for name, u in federation.whole_updates(1).items()}
        for name in federation.names[:-1]:
            federation.coordinator.add_upload(name, *self.sent[name])
        federation.agree()
        self.consents = federation.coordinator.consent_requests()
        self.unmasks = federation.coordinator.unmask_requests()
        federation.unmask(silent=federation.names[1:2])
        self.backups = federation.coordinator.backup_requests()
        federation.relieve()
        self.before_close = {name: store.copy() for name, store in federation.stores.items()}
        self.close = federation.close(1)
        self.name = federation.names[0]
        self.said = [self.start, self.consents[self.name], self.unmasks[self.name], self.backups[self.name], self.close]

    def again(self, form, data, *, signer=None, context=None, **changes):
        """A server's message, changed and signed again."""
        signed, body = read_signed(form, data)
        return sign(signer or self.server, context or signed.context, replace(body, **changes))

    def restarted(self, name):
        """The site as it was before CLOSE."""
        return self.federation.make_site(name, self.before_close[name])

    def header(self, at, vector=ZERO, signer=None, context=None):
        identity = signer or self.federation.identities[self.federation.names[at]]
        signature = identity.sign(header_statement(context or self.context, vector, ZERO))
        return Header(vector=vector, parts=ZERO, signature=signature)

    def agreement(self, at, survivors, signer=None, round=None):
        round = round or start_round(self.params, read_signed(Start, self.start)[1])
        identity = signer or self.federation.identities[self.federation.names[at]]
        signature = identity.sign(survivors_statement(self.context, survivors))
        return AgreementOf(round=round, survivors=survivors, signature=signature)

    def spoken(self, at, head, signer=None):
        identity = signer or self.federation.identities[self.federation.names[at]]
        return HeadOf(head=encode(head), signature=identity.sign(head_statement(head)))

    def packet(self, at, holder, content, commitment, signer=None, leaf=None):
        """A signed upload in which `at` dealt `content` to `holder` under `commitment`, and the key of that seal."""
        name = self.federation.names[at]
        upload = decode(Upload, self.sent[name][0])
        parts = decode(Parts, upload.parts)
        chain = Vault(self.before_close[name], self.params.hash).chain(holder)
        route = sealing.Route(context=self.context, sender=at, recipient=holder)
        share = replace(
            parts.packets[holder].share,
            blob=sealing.seal(chain, route, content, lambda count: bytes(count)),
            commitment=sealing.commit_share(route, content) if commitment is None else commitment,
        )
        packet = replace(parts.packets[holder], share=share)
        packets = (*parts.packets[:holder], packet, *parts.packets[holder + 1 :])
        leaves = parts_leaves(replace(parts, packets=packets))
        identity = signer or self.federation.identities[name]
        vector, hashed = upload.header.vector, parts_hash(leaves)
        header = Header(vector=vector, parts=hashed, signature=identity.sign(header_statement(self.context, vector, hashed)))
        shown = packet if leaf is None else replace(packet, backup=replace(packet.backup, commitment=leaf))
        dealt = PacketOf(context=self.context, header=header, leaves=leaves, recipient=holder, packet=shown)
        return dealt, sealing.seal_key(chain, route).reveal()


@pytest.fixture(scope="module")
def scene(kit):
    return Scene(kit)


def of_server(kind, first, second):
    return lambda s: evidence_of(s.server.public, kind, first(s), second(s))


def of_site(kind, at, first, second=lambda s: b""):
    return lambda s: evidence_of(s.params.members[at].identity, kind, first(s), second(s))


def start(s, **changes):
    _, body = read_signed(Start, s.start)
    body = replace(body, **changes)
    return sign(s.server, start_context(s.params, body), body)


def close(s, **changes):
    body = replace(read_signed(Close, s.close)[1], **changes)
    return sign(s.server, close_context(s.params, body), body)


OTHER = (0, 1, 2, 3, 4)
THIS = (0, 1, 2, 3, 4, 5)
CONSENT = lambda s, **c: s.again(Consent, s.consents[s.name], **c)  # noqa: E731
UNMASK = lambda s, **c: s.again(Unmask, s.unmasks[s.name], **c)  # noqa: E731
BACKUP = lambda s, **c: s.again(Backup, s.backups[s.name], **c)  # noqa: E731


def answer_head(s, at=1, marks=(0, 0, 2, 1), said=(b"a" * 32,) * 4, shown=(b"a" * 32, b"b" * 32, b"c" * 32), site=None):
    return AnswerHead(context=s.context, site=at if site is None else site, shown=shown, marks=bytes(marks), digests=said)


def backup_head(s, at=1, marks=(0, 2), said=(b"a" * 32, ZERO), shown=(b"b" * 32, b"c" * 32), missing=(0, 2)):
    return BackupHead(context=s.context, site=at, missing=missing, shown=shown, marks=bytes(marks), digests=said)


def offer(s, at, *, epoch=1, key=ZERO, site=None, context=None):
    name = s.federation.names[at]
    place = at if site is None else site
    return sign(s.federation.identities[name], context or s.params.hash, Offer(epoch=epoch, site=place, key=key))


PROOFS = {
    "two rounds under one number": of_server(Kind.ROUND, lambda s: s.start, lambda s: start(s, model=ZERO)),
    "a round closed under another context": of_server(Kind.ROUND, lambda s: s.start, lambda s: close(s, start_model=ZERO)),
    "two results of a round": of_server(Kind.CLOSE, lambda s: s.close, lambda s: close(s, model=ZERO)),
    "two results under two contexts": of_server(Kind.CLOSE, lambda s: s.close, lambda s: close(s, previous=ZERO)),
    "two consents": of_server(Kind.SURVIVORS, CONSENT, lambda s: CONSENT(s, survivors=OTHER)),
    "two unmasks": of_server(Kind.SURVIVORS, UNMASK, lambda s: UNMASK(s, survivors=OTHER, recipient=3)),
    "consent and unmask": of_server(Kind.SURVIVORS, CONSENT, lambda s: UNMASK(s, survivors=OTHER)),
    "unmask and backup": of_server(Kind.SURVIVORS, UNMASK, lambda s: BACKUP(s, survivors=OTHER)),
    "unmask and close": of_server(Kind.SURVIVORS, UNMASK, lambda s: close(s, survivors=OTHER)),
    "two headers": of_site(
        Kind.UPLOAD,
        2,
        lambda s: HeaderOf(context=s.context, header=decode(Upload, s.sent[s.federation.names[2]][0]).header),
        lambda s: HeaderOf(context=s.context, header=s.header(2)),
    ),
    "two agreements": of_site(Kind.AGREEMENT, 2, lambda s: s.agreement(2, THIS), lambda s: s.agreement(2, OTHER)),
    "two offers": of_site(Kind.OFFER, 2, lambda s: offer(s, 2), lambda s: offer(s, 2, key=b"k" * 32)),
    "offer in two places": of_site(Kind.OFFER, 2, lambda s: offer(s, 2), lambda s: offer(s, 2, site=3)),
    "a share that does not fit": of_site(Kind.SHARE, 1, lambda s: s.spoken(1, answer_head(s))),
    "a backup that does not fit": of_site(Kind.BACKUP, 1, lambda s: s.spoken(1, backup_head(s))),
    "a share dealt wrongly": lambda s: evidence_of(
        s.params.members[1].identity, Kind.DEALING, *s.packet(1, 3, b"\x05" * 32, b"x" * 32)
    ),
    "no share dealt": lambda s: evidence_of(s.params.members[1].identity, Kind.DEALING, *s.packet(1, 3, b"\xff" * 32, None)),
}

INNOCENT = {
    "the same start": of_server(Kind.ROUND, lambda s: s.start, lambda s: s.start),
    "starts of two rounds": of_server(Kind.ROUND, lambda s: s.start, lambda s: start(s, round=2)),
    "start and its close": of_server(Kind.ROUND, lambda s: s.start, lambda s: s.close),
    "a start under a context not its own": of_server(
        Kind.ROUND, lambda s: s.start, lambda s: s.again(Start, s.start, model=ZERO)
    ),
    "a start of another study": of_server(
        Kind.ROUND, lambda s: s.start, lambda s: s.again(Start, s.start, context=b"another study" + bytes(19))
    ),
    "a start signed by a site": of_server(
        Kind.ROUND, lambda s: s.start, lambda s: s.again(Start, start(s, model=ZERO), signer=s.federation.identities[s.name])
    ),
    "a void": of_server(Kind.ROUND, lambda s: s.start, lambda s: sign(s.server, s.context, Void(round=1))),
    "the same close": of_server(Kind.CLOSE, lambda s: s.close, lambda s: s.close),
    "closes of two rounds": of_server(Kind.CLOSE, lambda s: s.close, lambda s: close(s, round=2, model=ZERO)),
    "a close signed by a site": of_server(
        Kind.CLOSE, lambda s: s.close, lambda s: s.again(Close, close(s, model=ZERO), signer=s.federation.identities[s.name])
    ),
    "a start is no close": of_server(Kind.CLOSE, lambda s: s.start, lambda s: s.close),
    "the same set": of_server(Kind.SURVIVORS, CONSENT, UNMASK),
    "sets of two rounds": of_server(Kind.SURVIVORS, UNMASK, lambda s: UNMASK(s, survivors=OTHER, context=ZERO)),
    "a set signed by a site": of_server(
        Kind.SURVIVORS, UNMASK, lambda s: UNMASK(s, survivors=OTHER, signer=s.federation.identities[s.name])
    ),
    "a kept set signed by a site": of_server(
        Kind.SURVIVORS, lambda s: UNMASK(s, survivors=OTHER, signer=s.federation.identities[s.name]), UNMASK
    ),
    "a start names no set": of_server(Kind.SURVIVORS, UNMASK, lambda s: s.start),
    "the server's messages do not convict a site": of_site(Kind.SURVIVORS, 0, UNMASK, lambda s: UNMASK(s, survivors=OTHER)),
    "two starts by a site are not the server's": of_site(
        Kind.ROUND,
        0,
        lambda s: s.again(Start, s.start, signer=s.federation.identities[s.name]),
        lambda s: s.again(Start, start(s, model=ZERO), signer=s.federation.identities[s.name]),
    ),
    "two sets by a site are not the server's": of_site(
        Kind.SURVIVORS,
        0,
        lambda s: UNMASK(s, signer=s.federation.identities[s.name]),
        lambda s: UNMASK(s, survivors=OTHER, signer=s.federation.identities[s.name]),
    ),
    "the same header": of_site(Kind.UPLOAD, 2, *[lambda s: HeaderOf(context=s.context, header=s.header(2))] * 2),
    "headers of two rounds": of_site(
        Kind.UPLOAD,
        2,
        lambda s: HeaderOf(context=s.context, header=s.header(2)),
        lambda s: HeaderOf(context=ZERO, header=s.header(2, vector=b"v" * 32, context=ZERO)),
    ),
    "a header by another": of_site(
        Kind.UPLOAD,
        2,
        lambda s: HeaderOf(context=s.context, header=s.header(2)),
        lambda s: HeaderOf(context=s.context, header=s.header(3, vector=b"v" * 32)),
    ),
    "headers by nobody": lambda s: evidence_of(
        s.kit.identity_of("stranger").public,
        Kind.UPLOAD,
        HeaderOf(context=s.context, header=s.header(2, signer=s.kit.identity_of("stranger"))),
        HeaderOf(context=s.context, header=s.header(2, vector=b"v" * 32, signer=s.kit.identity_of("stranger"))),
    ),
    "the agreement of every upload": of_site(
        Kind.AGREEMENT, 2, lambda s: s.agreement(2, tuple(range(7))), lambda s: s.agreement(2, OTHER)
    ),
    "the same agreement": of_site(Kind.AGREEMENT, 2, lambda s: s.agreement(2, OTHER), lambda s: s.agreement(2, OTHER)),
    "an agreement by another": of_site(Kind.AGREEMENT, 2, lambda s: s.agreement(2, THIS), lambda s: s.agreement(3, OTHER)),
    "agreements by nobody": lambda s: evidence_of(
        s.kit.identity_of("stranger").public,
        Kind.AGREEMENT,
        s.agreement(2, THIS, signer=s.kit.identity_of("stranger")),
        s.agreement(2, OTHER, signer=s.kit.identity_of("stranger")),
    ),
    "offers by nobody": lambda s: evidence_of(
        s.kit.identity_of("stranger").public,
        Kind.OFFER,
        *[sign(s.kit.identity_of("stranger"), s.params.hash, Offer(epoch=1, site=2, key=key)) for key in (ZERO, b"k" * 32)],
    ),
    "participants made up": of_site(
        Kind.AGREEMENT,
        2,
        *[
            lambda s, u=u: s.agreement(
                2, u, round=replace(start_round(s.params, read_signed(Start, s.start)[1]), participants=(0, 1, 2))
            )
            for u in (tuple(range(7)), OTHER)
        ],
    ),
    "the same offer": of_site(Kind.OFFER, 2, lambda s: offer(s, 2), lambda s: offer(s, 2)),
    "offers of two epochs": of_site(Kind.OFFER, 2, lambda s: offer(s, 2), lambda s: offer(s, 2, epoch=2, key=b"k" * 32)),
    "an offer to another study": of_site(
        Kind.OFFER, 2, lambda s: offer(s, 2), lambda s: offer(s, 2, key=b"k" * 32, context=ZERO)
    ),
    "an offer by another": of_site(Kind.OFFER, 2, lambda s: offer(s, 2), lambda s: offer(s, 3, site=2, key=b"k" * 32)),
    "a share that fits": of_site(
        Kind.SHARE, 1, lambda s: s.spoken(1, answer_head(s, said=(b"a" * 32, b"b" * 32, b"x" * 32, b"y" * 32)))
    ),
    "an answer by another": of_site(Kind.SHARE, 1, lambda s: s.spoken(1, answer_head(s), signer=s.server)),
    "an answer in another's place": of_site(Kind.SHARE, 1, lambda s: s.spoken(1, answer_head(s, site=2))),
    "an answer in no place": of_site(Kind.SHARE, 1, lambda s: s.spoken(1, answer_head(s, site=900))),
    "an answer with a mark too few": of_site(Kind.SHARE, 1, lambda s: s.spoken(1, answer_head(s, marks=(0, 0, 2)))),
    "an answer shown too little": of_site(Kind.SHARE, 1, lambda s: s.spoken(1, answer_head(s, shown=(b"b" * 32,)))),
    "a backup head is no answer head": of_site(Kind.SHARE, 1, lambda s: s.spoken(1, backup_head(s))),
    "a backup that fits": of_site(Kind.BACKUP, 1, lambda s: s.spoken(1, backup_head(s, said=(b"b" * 32, ZERO)))),
    "a backup by another": of_site(Kind.BACKUP, 1, lambda s: s.spoken(1, backup_head(s), signer=s.server)),
    "a backup in another's place": of_site(Kind.BACKUP, 1, lambda s: s.spoken(1, backup_head(s, at=2))),
    "a backup with a mark too few": of_site(Kind.BACKUP, 1, lambda s: s.spoken(1, backup_head(s, marks=(0,)))),
    "a dealt share that fits": lambda s: evidence_of(
        s.params.members[1].identity, Kind.DEALING, *s.packet(1, 3, b"\x05" * 32, None)
    ),
    "a dealt share under a false key": lambda s: evidence_of(
        s.params.members[1].identity, Kind.DEALING, s.packet(1, 3, b"\x05" * 32, b"x" * 32)[0], ZERO
    ),
    "a dealt share under half a key": lambda s: evidence_of(
        s.params.members[1].identity, Kind.DEALING, s.packet(1, 3, b"\x05" * 32, b"x" * 32)[0], bytes(16)
    ),
    "a packet by another": lambda s: evidence_of(
        s.params.members[1].identity, Kind.DEALING, *s.packet(1, 3, b"\x05" * 32, b"x" * 32, signer=s.server)
    ),
    "a packet by nobody": lambda s: evidence_of(
        s.kit.identity_of("stranger").public,
        Kind.DEALING,
        *s.packet(1, 3, b"\x05" * 32, b"x" * 32, signer=s.kit.identity_of("stranger")),
    ),
    "a packet that was not signed": lambda s: evidence_of(
        s.params.members[1].identity, Kind.DEALING, *s.packet(1, 3, b"\x05" * 32, b"x" * 32, leaf=ZERO)
    ),
    "leaves that were not signed": lambda s: (
        lambda dealt, key: evidence_of(
            s.params.members[1].identity, Kind.DEALING, replace(dealt, leaves=(*dealt.leaves, ZERO)), key
        )
    )(*s.packet(1, 3, b"\x05" * 32, b"x" * 32)),
    "a packet to another recipient": lambda s: (
        lambda dealt, key: evidence_of(s.params.members[1].identity, Kind.DEALING, replace(dealt, recipient=4), key)
    )(*s.packet(1, 3, b"\x05" * 32, b"x" * 32)),
    "an unknown kind": lambda s: Evidence(party=s.server.public, kind="TASTE", first=s.start, second=s.close),
    "nothing": lambda s: evidence_of(s.server.public, Kind.SURVIVORS, b"", b""),
}


@pytest.mark.parametrize("case", PROOFS)
def test_fault_is_proved_to_a_third_party(scene, case):
    evidence = PROOFS[case](scene)
    again = decode(Evidence, encode(evidence))
    assert again == evidence and proves(scene.params, again)
    assert accused(scene.params, again) in ("the server", *scene.federation.names)


@pytest.mark.parametrize("case", PROOFS)
def test_fault_is_not_proved_of_another_party_kind_study_or_from_half(kit, scene, case):
    evidence = PROOFS[case](scene)
    parties = {member.identity for member in scene.params.members} | {scene.server.public, kit.identity_of("x").public}
    assert not any(proves(scene.params, replace(evidence, party=party)) for party in parties - {evidence.party})
    allowed = {Kind.CLOSE, Kind.ROUND} if case == "two results under two contexts" else {evidence.kind}
    assert not any(proves(scene.params, replace(evidence, kind=str(kind))) for kind in set(Kind) - allowed)
    assert not proves(scene.params, replace(evidence, first=evidence.first[:-1]))
    if evidence.second:
        assert not proves(scene.params, replace(evidence, second=evidence.first))
        assert not proves(scene.params, replace(evidence, first=evidence.second))
    if evidence.kind in (Kind.ROUND, Kind.CLOSE, Kind.OFFER):
        assert not proves(replace(scene.params, session=b"another" + bytes(25)), evidence)


@pytest.mark.parametrize("case", INNOCENT)
def test_nothing_is_proved(scene, case):
    assert not proves(scene.params, INNOCENT[case](scene))


def test_stranger_is_accused_of_nothing(kit, scene):
    evidence = replace(PROOFS["two unmasks"](scene), party=kit.identity_of("stranger").public)
    assert accused(scene.params, evidence) is None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(PROOFS)), st.data())
def test_changed_evidence_proves_nothing_or_the_same_and_never_fails(scene, case, data):
    evidence = PROOFS[case](scene)
    half = data.draw(st.sampled_from(["first", "second"]))
    whole = getattr(evidence, half)
    at = data.draw(st.integers(0, len(whole)))
    changed = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + data.draw(st.integers(0, 3)) :]
    found = proves(scene.params, replace(evidence, **{half: changed}))
    assert not found or changed == whole


@pytest.mark.parametrize("case", PROOFS)
def test_evidence_against_a_dealer_alone_opens_anything(scene, case):
    """No opened share, no key: but the key of the one share that the evidence proves to be dealt wrongly."""
    evidence = PROOFS[case](scene)
    image = encode(evidence)
    for store in scene.before_close.values():
        vault = Vault(store, scene.params.hash)
        assert not any(vault.chain(peer).reveal() in image for peer in range(7))
    for released in scene.federation.coordinator._round.answers.values():
        kinds = (released.shares, released.pairs, released.complaints)
        assert not any(value.reveal() in image for kind in kinds for value in kind.values())
    assert (evidence.kind == Kind.DEALING) == (len(evidence.second) == 32)


def test_all_that_an_honest_server_says_contradicts_nothing(kit):
    """Rounds with losses, a void, restarts of sites and server: no pair of messages is evidence of anything."""
    federation = kit.Federation(kit.make_params(7))
    said = []
    for round, lost in ((1, 6), (2, 0), (3, 2)):
        updates = federation.whole_updates(round)
        said.append(federation.begin(round))
        if round == 2:
            said.append(federation.coordinator.void())
            continue
        federation.upload(round, {n: u for n, u in updates.items() if n != federation.names[lost]})
        federation.agree()
        said += list(federation.coordinator.consent_requests().values())[:2]
        federation.restart(federation.names[1])
        federation.unmask(silent=federation.names[3:4])
        said += list(federation.coordinator.unmask_requests().values())[:2]
        said += list(federation.coordinator.backup_requests().values())[:2]
        federation.relieve()
        said.append(federation.close(round))
    pairs = [evidence_of(federation.server.public, kind, *pair) for pair in permutations(said, 2) for kind in Kind]
    assert not any(proves(federation.params, evidence) for evidence in pairs)
    assert all(site.alarms == () for site in federation.sites.values()) and federation.coordinator.faults == ()


# what a site does with it


def test_evidence_survives_a_restart_and_comes_once(scene):
    site = scene.restarted(scene.name)
    store = scene.before_close[scene.name]
    for recipient in (0, 0):
        with pytest.raises(ProvenFault, match="answered for other survivors") as caught:
            site.unmask(UNMASK(scene, survivors=OTHER, recipient=recipient))
    assert caught.value.evidence.first == scene.consents[scene.name]
    assert "remedy: evidence is kept" in str(caught.value)
    alarms = scene.federation.make_site(scene.name, store).alarms
    assert [evidence.first for evidence in alarms] == [scene.consents[scene.name], scene.unmasks[scene.name]]
    assert all(proves(scene.params, evidence) for evidence in alarms)
    # a flood of other contradictions adds nothing, and the site still does what it did
    for last in range(3, 6):
        with pytest.raises(ProvenFault):
            site.unmask(UNMASK(scene, survivors=(0, 1, 2, last)))
    assert site.alarms == alarms
    assert (
        site.unmask(scene.unmasks[scene.name])
        and site.backup(scene.backups[scene.name])
        and site.close(*scene.federation.published[0])
    )


def test_evidence_is_kept_where_the_round_is_void_already(scene):
    site = scene.restarted(scene.federation.names[2])
    site.void(sign(scene.server, scene.context, Void(round=1)))
    request = scene.again(Unmask, scene.unmasks[scene.federation.names[2]], survivors=OTHER)
    with pytest.raises(RoundVoid):
        site.unmask(request)
    assert {evidence.kind for evidence in site.alarms} == {"SURVIVORS"}


def test_refused_message_that_contradicts_nothing_raises_no_alarm(scene):
    site = scene.restarted(scene.federation.names[3])
    body = read_signed(Unmask, scene.unmasks[scene.federation.names[3]])[1]
    for request in (
        sign(scene.server, ZERO, body),
        sign(scene.federation.identities[scene.name], scene.context, replace(body, survivors=OTHER)),
        sign(scene.server, scene.context, replace(body, recipient=0)),
    ):
        with pytest.raises(ProtocolError) as caught:
            site.unmask(request)
        assert not isinstance(caught.value, ProvenFault)
    assert site.alarms == ()


def test_site_that_signed_two_uploads_is_found_in_the_servers_messages(scene):
    """CONSENT showed one header of site 4, CLOSE another; the server need not have known."""
    site = scene.restarted(scene.federation.names[3])
    headers = list(read_signed(Close, scene.close)[1].headers)
    headers[4] = scene.header(4)
    with pytest.raises(ProvenFault):
        site.close(close(scene, headers=tuple(headers), survivors=OTHER), scene.federation.last_total)
    found = {(accused(scene.params, evidence), evidence.kind) for evidence in site.alarms}
    assert found == {("the server", "SURVIVORS"), ("site-04", "UPLOAD")}
    assert all(proves(scene.params, evidence) for evidence in site.alarms)


def test_site_that_agreed_to_two_sets_is_found_in_two_unmasks(scene):
    site = scene.restarted(scene.federation.names[5])
    statement = survivors_statement(scene.context, (0, 1, 2, 3, 5))
    double = Proof(site=2, signature=scene.federation.identities[scene.federation.names[2]].sign(statement))
    request = scene.again(Unmask, scene.unmasks[scene.federation.names[5]], survivors=(0, 1, 2, 3, 5), proof=(double,))
    with pytest.raises(ProvenFault):
        site.unmask(request)
    found = {(accused(scene.params, evidence), evidence.kind) for evidence in site.alarms}
    assert found == {("the server", "SURVIVORS"), ("site-02", "AGREEMENT")}
    assert all(proves(scene.params, evidence) for evidence in site.alarms)


def test_member_that_made_two_offers_of_an_epoch_is_found_in_two_key_sets(kit):
    federation = kit.Federation(kit.make_params(4))
    site, store = federation.sites[federation.names[0]], federation.stores[federation.names[0]]
    private = Secret(b"another key of site-02, thirty two"[:32])
    offers = {name: other.offer_keys() for name, other in federation.sites.items()}
    offers["site-02"] = make_offer(federation.params, federation.identities["site-02"], site=2, epoch=1, private=private)
    second = federation.coordinator.make_keyset(federation.params, offers)
    before = store._secrets
    for _ in range(2):
        with pytest.raises(ProvenFault, match="another key set was accepted for this epoch") as caught:
            site.accept_keys(second)
    assert store._secrets == before
    assert [accused(federation.params, evidence) for evidence in site.alarms] == ["site-02"]
    assert site.alarms == (caught.value.evidence,) and proves(federation.params, site.alarms[0])
    assert federation.make_site(federation.names[0], store).alarms == site.alarms
