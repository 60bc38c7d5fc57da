"""Who a certificate says its holder is: the URI `wallet:<role>/<id>` among its names."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from wallet_engine.domain.errors import ConfigError

ID_LENGTH_MAX: Final = 64

_SCHEME: Final = "wallet:"
_id_match = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{ID_LENGTH_MAX - 1}}}\Z").match


class PeerRole(StrEnum):
    """What the holder of a certificate is to the others."""

    #: A journal copy; the id is its --journal-id.
    JOURNAL = "journal"
    #: An API process, or several that share a certificate.
    SERVICE = "service"
    #: Reads the journal as it grows.
    FOLLOWER = "follower"
    #: `wallet-admin`, of the person or machine named by the id.
    ADMIN = "admin"
    #: Calls the API over HTTPS as the key of this id; nobody between our processes.
    KEY = "key"
    #: A server that is none of ours, such as a Redis node; nobody between our processes.
    SERVER = "server"


class Principal(NamedTuple):
    """Who speaks on a connection. Raises nothing: `principal_of` and `checked` make only good ones."""

    role: PeerRole
    id: str

    def __str__(self) -> str:
        return f"{self.role}/{self.id}"

    @property
    def uri(self) -> str:
        return f"{_SCHEME}{self.role}/{self.id}"


def checked(role: str, name: str) -> Principal:
    """Raises `ConfigError` for a role that there is not, or an id that cannot stand in a URI."""
    if role not in {each.value for each in PeerRole}:
        raise ConfigError(f"role {role[:80]!r} is none of {', '.join(PeerRole)}")
    if not _id_match(name):
        raise ConfigError(
            f"id {name[:80]!r} must be 1-{ID_LENGTH_MAX} of A-Z a-z 0-9 . _ - and not begin with a sign"
        )
    return Principal(PeerRole(role), name)


def principal_of(certificate: Mapping[str, Any] | None) -> Principal | None:
    """The one principal that a certificate, as `ssl`'s `getpeercert` tells it, is for; None for none or several."""
    names = [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "URI"]
    return principal_of_uris(names)


def principal_of_uris(names: list[str]) -> Principal | None:
    ours = [name.removeprefix(_SCHEME) for name in names if name.startswith(_SCHEME)]
    if len(ours) != 1:
        return None
    role, _, name = ours[0].partition("/")
    try:
        return checked(role, name)
    except ConfigError:
        return None
