"""Second decoder: whether an ALARM proves by itself, from PARAMS alone, that its party broke the protocol."""

from __future__ import annotations

import tests_second_primitives as prim
from tests_second_site import PAIR, SHARE
from tests_second_study import route, share_hash, survivors_statement, verifies
from tests_second_wire import Malformed, build, parse, parse_signed

NAMES_SURVIVORS = ("CONSENT", "UNMASK", "BACKUP", "CLOSE")


def proves(study, data):
    """Yes or no; bytes that are no ALARM prove nothing."""
    try:
        alarm = parse("ALARM", data)
        check = CHECKS.get(alarm["kind"])
        return check is not None and check(study, alarm["party"], alarm["first"], alarm["second"])
    except Malformed:
        return False


def framed(study, data):
    """(round, context, kind, body) of a START or CLOSE that the server signed; the context follows from what it says."""
    wrapper = parse("SIGNED", data)
    if wrapper["kind"] not in ("START", "CLOSE"):
        raise Malformed("neither START nor CLOSE")
    body = parse(wrapper["kind"], wrapper["body"])
    context = study.start_hash(body) if wrapper["kind"] == "START" else study.close_hash(body)
    if wrapper["context"] != context or not verifies(study.params["server"], wrapper):
        raise Malformed("not signed by the server")
    return body["round"], context, wrapper["kind"], body


def two_rounds(study, party, first, second):
    one, other = framed(study, first), framed(study, second)
    return party == study.params["server"] and one[0] == other[0] and one[1] != other[1]


def two_results(study, party, first, second):
    one, other = framed(study, first), framed(study, second)
    closes = one[2] == other[2] == "CLOSE"
    return party == study.params["server"] and closes and one[0] == other[0] and one[3] != other[3]


def given_up_and_closed(study, party, first, second):
    wrappers = [parse("SIGNED", data) for data in (first, second)]
    signed = party == study.params["server"] and all(verifies(party, wrapper) for wrapper in wrappers)
    kinds = sorted(wrapper["kind"] for wrapper in wrappers)
    return signed and kinds == ["CLOSE", "VOID"] and wrappers[0]["context"] == wrappers[1]["context"]


def two_sets(study, party, first, second):
    told = []
    for data in (first, second):
        wrapper = parse("SIGNED", data)
        if wrapper["kind"] not in NAMES_SURVIVORS or not verifies(study.params["server"], wrapper):
            return False
        told.append((wrapper["context"], parse(wrapper["kind"], wrapper["body"])["survivors"]))
    return party == study.params["server"] and told[0][0] == told[1][0] and told[0][1] != told[1][1]


def two_uploads(study, party, first, second):
    told = [parse("HEADER-OF", data) for data in (first, second)]
    signed = all(header_signed(party, part["context"], part["header"]) for part in told)
    hashes = [(part["header"]["vector"], part["header"]["parts"]) for part in told]
    return place_of(study, party) is not None and signed and told[0]["context"] == told[1]["context"] and hashes[0] != hashes[1]


def two_agreements(study, party, first, second):
    told = [parse("AGREEMENT-OF", data) for data in (first, second)]
    context = prim.digest("context", build("CONTEXT", **told[0]["round"]))
    signed = all(
        prim.ed25519_verifies(party, survivors_statement(context, part["survivors"]), part["signature"]) for part in told
    )
    sets = [told[0]["round"]["participants"], told[0]["survivors"], told[1]["survivors"]]
    apart = sets[0] != sets[1] != sets[2] != sets[0]
    return place_of(study, party) is not None and signed and told[0]["round"] == told[1]["round"] and apart


def two_offers(study, party, first, second):
    told = [parse_signed("OFFER", data) for data in (first, second)]
    signed = all(wrapper["context"] == study.hash and verifies(party, wrapper) for wrapper, _ in told)
    one, other = told[0][1], told[1][1]
    return place_of(study, party) is not None and signed and one["epoch"] == other["epoch"] and one != other


def wrong_share(study, party, first, second):
    spoken = parse("HEAD-OF", first)
    head = parse("ANSWER-HEAD", spoken["head"])
    told = [(mark, said) for mark, said in zip(head["marks"], head["digests"], strict=False) if mark != PAIR]
    whole = len(head["marks"]) == len(head["digests"]) and len(told) == len(head["shown"]) and second == b""
    wrong = any(mark == SHARE and said != shown for (mark, said), shown in zip(told, head["shown"], strict=False))
    return whole and wrong and head_signed(study, party, "ANSWER-HEAD", spoken, head)


def wrong_backup(study, party, first, second):
    spoken = parse("HEAD-OF", first)
    head = parse("BACKUP-HEAD", spoken["head"])
    told = list(zip(head["marks"], head["digests"], head["shown"], strict=False))
    whole = len(told) == len(head["missing"]) == len(head["marks"]) == len(head["digests"]) == len(head["shown"])
    wrong = any(mark == SHARE and said != shown for mark, said, shown in told)
    return whole and second == b"" and wrong and head_signed(study, party, "BACKUP-HEAD", spoken, head)


def wrong_dealing(study, party, first, second):
    dealt, dealer = parse("PACKET-OF", first), place_of(study, party)
    leaf = prim.digest("packet", build("PACKET", **dealt["packet"]))
    covered = prim.digest("parts", *dealt["leaves"]) == dealt["header"]["parts"] and leaf in dealt["leaves"][1:]
    if dealer is None or not covered or len(second) != 32 or not header_signed(party, dealt["context"], dealt["header"]):
        return False
    sealed, holder = dealt["packet"]["share"], dealt["recipient"]
    share = prim.unseal(second, sealed["blob"], route(dealt["context"], dealer, holder, "share"))
    if share is None:
        return False
    fits = share_hash(dealt["context"], dealer, holder, share) == sealed["commitment"]
    return not fits or prim.element_of(share) is None


def place_of(study, party):
    return next((place for place, member in enumerate(study.members) if member["identity"] == party), None)


def header_signed(party, context, header):
    statement = prim.join("sign/HEADER", context, header["vector"], header["parts"])
    return prim.ed25519_verifies(party, statement, header["signature"])


def head_signed(study, party, kind, spoken, head):
    statement = prim.join("sign/" + kind, spoken["head"])
    return place_of(study, party) == head["site"] and prim.ed25519_verifies(party, statement, spoken["signature"])


CHECKS = {
    "ROUND": two_rounds,
    "CLOSE": two_results,
    "VOID": given_up_and_closed,
    "SURVIVORS": two_sets,
    "UPLOAD": two_uploads,
    "AGREEMENT": two_agreements,
    "OFFER": two_offers,
    "SHARE": wrong_share,
    "BACKUP": wrong_backup,
    "DEALING": wrong_dealing,
}
