"""The paths of the tree that each role may change. `test_admin_access.py` tests them with a real ZooKeeper."""

import pytest
from kazoo.security import ACL, make_digest_acl

from wallet_engine.routing.access import Roles, access_list
from wallet_engine.routing.zookeeper import Credentials

SRE, SERVICE, API = Credentials("sre", "1"), Credentials("wallet", "2"), Credentials("api", "3")


def allowed(acl: list[ACL], who: Credentials | None) -> str:
    """The letters of a user's rights: create, delete, read, write, admin (ZooKeeper programmer's guide, ACLs)."""
    ids = {"anyone"}
    if who is not None:
        ids.add(make_digest_acl(who.user, who.password).id.id)
    bits = 0
    for entry in acl:
        bits |= entry.perms if entry.id.id in ids else 0
    return "".join(letter for letter, bit in zip("rwcda", (1, 2, 4, 8, 16), strict=True) if bits & bit)


@pytest.mark.parametrize(
    ("path", "service", "anybody"),
    [
        *(
            (f"/wallet{path}", "r", "r")
            for path in ("", "/config", "/keys", "/keys/k1", "/shards", "/shards/s1", "/moves", "/moves/3")
        ),
        *((f"/wallet{path}", "r", "r") for path in ("/audit", "/audit/0000000001", "/something new")),
        ("/wallet/map", "rw", "r"),
        ("/wallet/map/below", "r", "r"),
        ("/wallet/access", "r", ""),
        *(
            (f"/wallet/{folder}", "rwcd", "r")
            for folder in ("services", "journals", "copies", "locks", "used")
        ),
        ("/wallet/services/api", "rwcda", "r"),
        ("/wallet/journals/j1", "rwcda", "r"),
        ("/wallet/copies/members", "rwcda", "r"),
        ("/wallet/locks/recovery-s1", "rwcda", "r"),
        ("/wallet/services-not", "r", "r"),
    ],
)
def test_who_may_do_what(path: str, service: str, anybody: str) -> None:
    acl = access_list(path, Roles(SRE, SERVICE, SERVICE))
    assert allowed(acl, SRE) == "rwcda"
    assert allowed(acl, SERVICE) == service
    assert allowed(acl, None) == anybody
    assert allowed(acl, Credentials("sre", "2")) == anybody


@pytest.mark.parametrize(
    ("path", "may"),
    [
        ("/wallet/services", "rwcd"),
        ("/wallet/services/api-1", "rwcda"),
        ("/wallet/used/abc", "rwcda"),
        ("/wallet/following/history", "rwcda"),
        ("/wallet/journals", "r"),
        ("/wallet/journals/j1", "r"),
        ("/wallet/copies", "r"),
        ("/wallet/copies/members", "r"),
        ("/wallet/locks", "r"),
        ("/wallet/map", "r"),
        ("/wallet/config", "r"),
        ("/wallet/keys", "r"),
        ("/wallet/access", "r"),
    ],
)
def test_g13_an_api_process_registers_itself_and_no_journal(path: str, may: str) -> None:
    acl = access_list(path, Roles(SRE, SERVICE, API))
    assert allowed(acl, API) == may
    assert allowed(acl, SRE) == "rwcda"
    assert allowed(acl, SERVICE) == allowed(access_list(path, Roles(SRE, SERVICE, SERVICE)), SERVICE)
