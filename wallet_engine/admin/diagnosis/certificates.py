"""Checks when the certificates of a cluster expire: those that its servers show, and those of this command."""

import socket
import ssl
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.mends import Mend, by_hand, wallet_admin
from wallet_engine.admin.nodes import ASKED_AT_ONCE_MAX
from wallet_engine.admin.survey import Survey
from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.principals import Principal
from wallet_engine.journal.peer_tls import peer_tls
from wallet_engine.redis_store.login import login
from wallet_engine.routing.zookeeper_tls import zookeeper_tls

#: Enough time to issue new certificates and distribute them.
ENDS_WARN: Final = timedelta(days=30)
_SHOWN_S_MAX: Final = 2.0
_REDIS_AT: Final = "Redis at "
_ZOOKEEPER_AT: Final = "ZooKeeper at "
#: Servers that go on with the files that they have read, and what makes them read the new ones.
_READ_WHEN: Final = {
    _REDIS_AT: "Redis reads them when told, on each node: CONFIG SET tls-cert-file FILE tls-key-file FILE",
    _ZOOKEEPER_AT: "ZooKeeper reads them when it starts: start its servers again, one after the other",
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """`where`: where it was seen; `holder`: None for an authority's certificate, ours or another's."""

    where: str
    holder: Principal | None
    ends: datetime


def certificates_of(found: Survey, zookeeper: Iterable[str]) -> list[Certificate]:
    """Ask every server that speaks TLS. One that does not answer is skipped: other checks report it."""
    servers: list[tuple[str, str]] = []
    if login().ca is not None:
        servers += [
            (f"{_REDIS_AT}{node.address}", node.address) for state in found.shards for node in state.nodes
        ]
    if zookeeper_tls().ca is not None:
        servers += [(f"{_ZOOKEEPER_AT}{address}", address) for address in zookeeper]
    servers += [
        (f"journal copy {state.info.journal_id}", state.info.address)
        for state in found.journals
        if state.info.tls
    ]
    servers += [(f"API process {info.service_id}", info.address) for info in found.services if info.tls]
    with ThreadPoolExecutor(ASKED_AT_ONCE_MAX) as pool:
        shown = [one for one in pool.map(lambda server: _shown(*server), servers) if one is not None]
    return [*shown, *_own()]


def _shown(where: str, address: str) -> Certificate | None:
    """The certificate that the server shows to anybody, before it asks for the client's (RFC 8446, 4.4)."""
    # Imported only when needed: the import takes a tenth of a second.
    from wallet_engine.telemetry.authority import holder_shown

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        suppress(OSError, ValueError),
        socket.create_connection(split_address(address), _SHOWN_S_MAX) as link,
        context.wrap_socket(link) as wrapped,
    ):
        der = wrapped.getpeercert(binary_form=True)
        return None if der is None else Certificate(where, *holder_shown(der))
    return None


def _own() -> Iterator[Certificate]:
    from wallet_engine.telemetry.authority import holder_of

    files: set[Path] = set()
    for known in (login().client_tls, zookeeper_tls()):
        files |= {path for path in (known.ca, known.cert) if path is not None}
    peer = peer_tls()
    if peer is not None:
        files |= set(peer.certificates)
    for path in sorted(files):
        with suppress(ConfigError):
            yield Certificate(str(path), *holder_of(path))


def ending(certificates: Sequence[Certificate]) -> Iterator[Finding]:
    now = datetime.now(UTC)
    seen: dict[tuple[str, datetime], list[Certificate]] = defaultdict(list)
    for one in certificates:
        if one.ends - now < ENDS_WARN:
            # A file has no server name: the same certificate seen at a server is merged with it.
            seen[str(one.holder or one.where), one.ends].append(one)
    for (name, ends), places in sorted(seen.items()):
        where = ", ".join(dict.fromkeys(one.where for one in places))
        holder = places[0].holder
        subject = f"the certificate of {name}" + ("" if holder is None else f" ({where})")
        when = f"{ends:%Y-%m-%d %H:%M} UTC"
        what = (
            f"{subject} ended on {when}"
            if ends <= now
            else f"{subject} ends on {when}, in {(ends - now).days} days"
        )
        yield Finding("certificates", "error" if ends <= now else "warning", what, _renewal(holder, where))


def _renewal(holder: Principal | None, where: str) -> Mend:
    if holder is None:
        return by_hand("renew it where it was made; DEPLOY.md says how to change to a new authority")
    command = wallet_admin("ca", "issue", holder.role, holder.id, "--ca", "DIR", "--renew")
    read = [text for server, text in _READ_WHEN.items() if server in where] or ["they are reloaded"]
    said = "with the --hosts it has, and copy both files to where the old ones are: "
    return Mend(command, said + "; ".join(read))
