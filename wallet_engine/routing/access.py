"""The access control lists in ZooKeeper: three roles, each a digest user, and what each may change.

    SRE       changes everything; only SREs change configuration, shards, moves and audit records
    service   changes what journal processes must write: registrations, locks, the list of copies, and the map,
              because a recovery raises epochs in it
    API       changes what API processes and followers must write: their registrations, when keys were used, how
              far followers are. It may be the same user as the service role

Every client may read everything except `ACCESS`: the tree holds no money, no customer and no secret. Only the
roles can read `ACCESS`, so reading it proves that credentials are good: ZooKeeper itself never reports a
wrong password.

A process with credentials creates nodes that belong to its role (`ZooKeeperTree`). Nodes do not inherit
lists, so `protect` gives older nodes to the roles.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from kazoo.security import ACL, READ_ACL_UNSAFE, make_digest_acl

from wallet_engine.domain.errors import ConfigError, WrongUsage
from wallet_engine.routing.tree import NodeExists, NodeMissing, NotAllowed, Tree
from wallet_engine.routing.zookeeper import Credentials, ZooKeeperTree
from wallet_engine.telemetry.secrets import read_secret

ACCESS: Final = "/wallet/access"
_ROOT: Final = "/wallet"
_MAP: Final = f"{_ROOT}/map"
#: Folders in which services create and delete nodes.
_SERVICE_FOLDERS: Final = tuple(
    f"{_ROOT}/{name}"
    for name in ("services", "journals", "copies", "locks", "used", "followers", "following")
)
_BELOW_SERVICE_FOLDERS: Final = tuple(f"{folder}/" for folder in _SERVICE_FOLDERS)
_API_FOLDERS: Final = tuple(f"{_ROOT}/{name}" for name in ("services", "used", "followers", "following"))
_BELOW_API_FOLDERS: Final = tuple(f"{folder}/" for folder in _API_FOLDERS)
#: Folders in which only SREs create and delete nodes.
_SRE_FOLDERS: Final = tuple(f"{_ROOT}/{name}" for name in ("shards", "moves", "audit", "accepted"))


class Roles(NamedTuple):
    """The user of each role; one user may have several roles."""

    sre: Credentials
    service: Credentials
    api: Credentials


def read_credentials(user: str | None, password_file: Path | None) -> Credentials | None:
    """None when neither is given. Raises `ConfigError` when one is missing or the file has no password."""
    if user is None and password_file is None:
        return None
    if user is None or password_file is None:
        raise WrongUsage("--zookeeper-user and --zookeeper-password-file are given together or not at all")
    if not user or ":" in user:
        raise WrongUsage(f"--zookeeper-user {user!r} must be a name without a colon")
    return Credentials(user, read_secret(password_file, f"password of {user}"))


def check_known(tree: Tree, credentials: Credentials) -> None:
    """Raises `ConfigError` when access to the tree is restricted and no role has these credentials."""
    try:
        tree.get(ACCESS)
    except NotAllowed:
        raise ConfigError(
            f"ZooKeeper knows no user {credentials.user} with this password: "
            f"set --zookeeper-user and --zookeeper-password-file"
        ) from None


def protect(tree: ZooKeeperTree, roles: Roles) -> int:
    """Give every node under `/wallet` to the roles. Returns the number of nodes. A repeated call completes a
    partial one.

    Raises `NotAllowed` when the tree is already protected for other users.
    """
    with suppress(NodeExists):
        tree.create(ACCESS, b"")
    for folder in (*_SERVICE_FOLDERS, *_SRE_FOLDERS):
        with suppress(NodeExists):
            tree.create(folder, b"")
    count = 0
    for path in _below(tree, _ROOT):
        of_service = path.startswith(_BELOW_SERVICE_FOLDERS)
        try:
            tree.set_acl(path, access_list(path, roles))
            count += 1
        except (NodeMissing, NotAllowed):
            if not of_service:
                raise
            # The node is gone, or its process has credentials and owns it.
    return count


def access_list(path: str, roles: Roles) -> list[ACL]:
    """The access control list of one node, by the table above."""
    all_for_sre = _acl(roles.sre, all=True)

    def listed(of_service: dict[str, bool], of_api: dict[str, bool]) -> list[ACL]:
        found = [all_for_sre]
        if of_service:
            found.append(_acl(roles.service, **of_service))
        if of_api and roles.api != roles.service:
            found.append(_acl(roles.api, **of_api))
        return found if path == ACCESS else [*found, *READ_ACL_UNSAFE]

    if path == ACCESS:
        return listed({"read": True}, {"read": True})
    if path == _MAP:
        return listed({"read": True, "write": True}, {})
    if path in _SERVICE_FOLDERS:
        keeps = {"read": True, "write": True, "create": True, "delete": True}
        return listed(keeps, keeps if path in _API_FOLDERS else {})
    if path.startswith(_BELOW_SERVICE_FOLDERS):
        return listed({"all": True}, {"all": True} if path.startswith(_BELOW_API_FOLDERS) else {})
    return listed({}, {})


def _acl(who: Credentials, **permissions: bool) -> ACL:
    return make_digest_acl(who.user, who.password, **permissions)


def _below(tree: Tree, path: str) -> Iterator[str]:
    for name in tree.children(path):
        yield from _below(tree, f"{path}/{name}")
    yield path
