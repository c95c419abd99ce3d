"""Row 6: rosters that the authority did not sign, or not last, and members that no person here accepted."""

from __future__ import annotations

import shutil

import pytest

from client.home import SiteHome
from client.study import store_plan
from ssl_core.chain import write_durably
from ssl_core.errors import ChainError, ConfigError, PolicyError, TrustError
from ssl_core.trust.certificates import generate_node_key
from ssl_core.trust.envelope import canonical, digest, seal
from ssl_core.trust.identity import Identity
from ssl_core.trust.roster import JoinRequest, Roster, sign_roster


@pytest.fixture
def hospitals(make_federation):
    return make_federation(4, patients=2)


def with_sybil(roster: Roster, version: int) -> tuple[Roster, str]:
    """The roster with one more member whose key the server holds."""
    sybil = JoinRequest(name="site-z", identity=Identity.generate().public_hex, supernode=generate_node_key()[1])
    return roster.model_copy(update={"version": version, "members": (*roster.members, sybil)}), sybil.name


def kept(home: SiteHome):
    return (home.root / "roster.json").read_bytes(), home.chain.entries(), home.accepted()


def test_row_06_a_member_that_the_authority_did_not_sign_in_is_refused(hospitals):
    """With every key of the operator's machine and of three colluding sites, together and alone (ruling 1)."""
    home, operator = hospitals.site("site-a"), hospitals.operator
    grown, _ = with_sybil(home.roster()[0], 2)
    before = kept(home)
    stolen = [operator.operator, operator.server, *(hospitals.site(name).identity for name in ("site-b", "site-c", "site-d"))]
    for signers in ([], *([key] for key in stolen), stolen):
        with pytest.raises(TrustError):
            home.install_roster(sign_roster(grown, signers))
        assert kept(home) == before
    own = grown.model_copy(update={"authorities": (operator.operator.public_hex,)})
    replaced = own.model_copy(update={"server": own.server.model_copy(update={"operator": Identity.generate().public_hex})})
    for roster in (own, replaced):
        with pytest.raises((TrustError, ConfigError)):
            home.install_roster(sign_roster(roster, stolen))
    body = grown.model_dump(mode="json", exclude_none=True)
    with pytest.raises(TrustError):
        home.install_roster(seal("plan", body, hospitals.authority))
    assert kept(home) == before
    write_durably(home.root / "roster.json", sign_roster(grown, stolen))
    with pytest.raises(TrustError):
        home.roster()


def test_row_06_b_an_older_roster_is_refused_as_message_as_file_and_as_folder(hospitals, tmp_path):
    """Version 1 still lists a site that was expelled; its signature is as good as ever."""
    home = hospitals.site("site-a")
    first = (home.root / "roster.json").read_bytes()
    one = home.roster()[0]
    frozen = tmp_path / "backup"
    shutil.copytree(home.root, frozen)
    two = one.model_copy(update={"version": 2, "members": one.members[:3]})
    home.install_roster(sign_roster(two, [hospitals.authority]))
    with pytest.raises(TrustError, match="older than the one accepted here"):
        home.install_roster(first)
    write_durably(home.root / "roster.json", first)
    with pytest.raises(TrustError, match="older"):
        SiteHome(home.root).roster()
    home.chain.close()
    shutil.rmtree(home.root)
    shutil.copytree(frozen, home.root)
    with pytest.raises(ChainError, match="rolled back"):
        SiteHome(home.root).roster()


def test_row_06_c_two_rosters_of_one_version_do_not_both_count(hospitals):
    """A holder who signs twice splits the view; each site keeps to the first, and the studies' contexts differ."""
    one = hospitals.site("site-a").roster()[0]
    versions = [one.model_copy(update={"version": 2}), with_sybil(one, 2)[0]]
    signed = [sign_roster(roster, [hospitals.authority]) for roster in versions]
    hospitals.site("site-a").install_roster(signed[0])
    hospitals.site("site-b").install_roster(signed[1])
    with pytest.raises(TrustError, match="two rosters carry one version"):
        hospitals.site("site-a").install_roster(signed[1])
    digests = [digest(canonical(roster.model_dump(mode="json", exclude_none=True))) for roster in versions]
    assert hospitals.site("site-a").roster()[1] == digests[0] != hospitals.site("site-b").roster()[1]


def test_row_06_d_a_sybil_that_the_authority_signed_counts_only_where_a_person_accepted_it(hospitals):
    """The last word is each hospital's own: until then no study that names it is trained on."""
    grown, sybil = with_sybil(hospitals.site("site-a").roster()[0], 2)
    signed = sign_roster(grown, [hospitals.authority])
    write_durably(hospitals.operator.root / "roster.json", signed)
    for name in hospitals.names:
        hospitals.site(name).install_roster(signed)
    hospitals.names.append(sybil)
    plan = hospitals.launch()
    hospitals.names.remove(sybil)
    study = store_plan(hospitals.site("site-a"), (hospitals.operator.study(plan) / "plan.json").read_bytes())
    with pytest.raises(PolicyError, match="nobody here accepted"):
        study.approve("person")
    with pytest.raises(TrustError, match="not the one on the roster"):
        hospitals.site("site-a").accept_member(sybil, "aaaa-" * 7 + "aaaa")
    assert not study.approved() and hospitals.site("site-a").chain.entries("reserve") == []
