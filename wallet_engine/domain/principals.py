"""The identity of a certificate's holder: the URI `wallet:<role>/<id>` among the certificate's names."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from wallet_engine.domain.errors import ConfigError, WrongUsage

ID_LENGTH_MAX: Final = 64

_SCHEME: Final = "wallet:"
_id_match = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{ID_LENGTH_MAX - 1}}}\Z").match


class PeerRole(StrEnum):
    """The role of a certificate's holder."""

    #: A journal copy; the id is its --journal-id.
    JOURNAL = "journal"
    #: An API process, or several that share a certificate.
    SERVICE = "service"
    #: Reads the journal as it grows.
    FOLLOWER = "follower"
    #: `wallet-admin`, run by the person or machine that the id names.
    ADMIN = "admin"
    #: Calls the API over HTTPS as the API key of this id; not a role between our processes.
    KEY = "key"
    #: A server that is not ours, such as a Redis node; not a role between our processes.
    SERVER = "server"


class Principal(NamedTuple):
    """The peer of a connection.

    The constructor checks nothing: `principal_of` and `checked` make only valid ones.
    """

    role: PeerRole
    id: str

    def __str__(self) -> str:
        return f"{self.role}/{self.id}"

    @property
    def uri(self) -> str:
        return f"{_SCHEME}{self.role}/{self.id}"


def checked(role: str, name: str) -> Principal:
    """The principal. Raises `ConfigError` for an unknown role, or an id that is not valid in the URI."""
    if role not in {each.value for each in PeerRole}:
        raise WrongUsage(f"role {role[:80]!r} is none of {', '.join(PeerRole)}")
    if not _id_match(name):
        raise WrongUsage(
            f"id {name[:80]!r} must be 1-{ID_LENGTH_MAX} of A-Z a-z 0-9 . _ - and not begin with a sign"
        )
    return Principal(PeerRole(role), name)


def principal_of(certificate: Mapping[str, Any] | None) -> Principal | None:
    """The one principal in a certificate (from `ssl`'s `getpeercert`); None if it names none or several."""
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
