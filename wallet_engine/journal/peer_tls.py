"""Mutual TLS between our processes, with certificates of a private authority (`wallet-admin ca`).

Both ends show a certificate of that authority. Its URI, `wallet:<role>/<id>`, identifies the peer; host names
are not checked. A process has one `PeerTls`, from its flags, or none: then it uses no TLS. New connections
use the files as they are at that time.
"""

import asyncio
import ssl
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from wallet_engine.domain.errors import ConfigError, WrongUsage
from wallet_engine.domain.principals import PeerRole, Principal, principal_of
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.revoked import believe, revoked_serials
from wallet_engine.telemetry.secrets import check_secret_file

log = get_logger(__name__)

#: Seconds between two log lines about this process's own certificate.
TELL_S: Final = 60.0


class PeerMode(StrEnum):
    """`OPTIONAL` is for the time in which a running cluster changes to TLS."""

    REQUIRED = "required"
    OPTIONAL = "optional"


class NotSecured(OSError):
    """The copy accepts only TLS, and this process has no certificate."""

    def __init__(self) -> None:
        super().__init__("it speaks TLS only: give --peer-ca, --peer-cert and --peer-key")


class Impostor(OSError):
    """The peer's certificate is not that of the process to which we connect."""


class PeerTls:
    """The files of one process. Raises `ConfigError` when they cannot be used."""

    def __init__(self, ca: Path, cert: Path, key: Path, mode: PeerMode = PeerMode.REQUIRED) -> None:
        self._files = (ca, cert, key)
        self.mode = mode
        self._seen = self._look()
        self._server, self._client = self._read(ssl.PROTOCOL_TLS_SERVER), self._read(ssl.PROTOCOL_TLS_CLIENT)
        self._revoked = self._read_revoked()
        self._told_s = -TELL_S

    def __repr__(self) -> str:
        return f"<PeerTls {self._files[1]} {self.mode}>"

    @property
    def certificates(self) -> tuple[Path, Path]:
        """The files of the authority and of this process."""
        return self._files[:2]

    def principal(self) -> Principal:
        """Who this process is.

        Raises `ConfigError` for a certificate that is expired, or for none of our processes.
        """
        # Loaded only where it is needed: it costs a tenth of a second.
        from wallet_engine.telemetry.authority import holder_of

        _, cert, _ = self._files
        holder, ends = holder_of(cert)
        if holder is None:
            raise ConfigError(f"{cert} is for none of our processes: make one with wallet-admin ca issue")
        if ends < datetime.now(UTC):
            raise ConfigError(
                f"{cert} was good until {ends:%Y-%m-%d %H:%M} UTC: wallet-admin ca issue --renew"
            )
        return holder

    def server(self) -> ssl.SSLContext:
        """The context for connections that are accepted now."""
        self._renew()
        return self._server

    def client(self) -> ssl.SSLContext:
        """The context for a connection that is made now."""
        self._renew()
        self._tell_end()
        return self._client

    def _tell_end(self) -> None:
        """Log, once a minute, that other processes refuse this one: they close its connections without a word."""
        now_s = time.monotonic()
        if now_s < self._told_s + TELL_S:
            return
        try:
            self.principal()
            ended = (
                f"{self._files[1]} is revoked: wallet-admin ca issue --renew" if self._is_revoked() else ""
            )
        except ConfigError as error:
            ended = str(error)
        if ended:
            self._told_s = now_s
            log.error("other processes refuse this one", why=ended)

    def _is_revoked(self) -> bool:
        from wallet_engine.telemetry.authority import serial_in

        return bool(self._revoked) and serial_in(self._files[1]) in self._revoked

    def revoked(self) -> frozenset[int]:
        """Serial numbers of certificates that the authority has revoked."""
        self._renew()
        return self._revoked

    def _read_revoked(self) -> frozenset[int]:
        ca, _, _ = self._files
        try:
            return revoked_serials(ca)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read the list of revoked certificates in {ca}: {error}") from None

    def _renew(self) -> None:
        try:
            seen = self._look()
            if seen == self._seen:
                return
            self._server, self._client = (
                self._read(ssl.PROTOCOL_TLS_SERVER),
                self._read(ssl.PROTOCOL_TLS_CLIENT),
            )
            self._revoked = self._read_revoked()
            self._seen = seen
            log.info("certificates were read anew", cert=str(self._files[1]))
        except ConfigError as error:  # the files are being replaced, one after the other
            log.warning("the certificates stay as they were", error=str(error))

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        """A value that differs when the files have changed."""
        try:
            found = [path.stat() for path in self._files]
        except OSError as error:
            raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from None
        return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in found)

    def _read(self, protocol: int) -> ssl.SSLContext:
        ca, cert, key = self._files
        check_secret_file(key)
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the URI says who it is
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(cert, key, password=lambda: "")
            believe(context, ca)
        except (OSError, ValueError) as error:
            files = ", ".join(map(str, self._files))
            raise ConfigError(f"cannot use {files} for TLS between our processes: {error}") from None
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # nobody resumes a session: connections last
        return context


_current: PeerTls | None = None


def peer_tls() -> PeerTls | None:
    """The `PeerTls` of this process; None without TLS."""
    return _current


def use(chosen: PeerTls | None) -> None:
    """Use it for every later connection between our processes."""
    global _current
    _current = chosen


def use_flags(flags: MutableMapping[str, Any], role: PeerRole) -> None:
    """Remove the values of `telemetry.flags.peer_options` from a command's flags, and `use` them.

    Raises `ConfigError` for flags that do not fit together, files that cannot be used, and a certificate for
    another role than this command's.
    """
    ca, cert, key = (flags.pop(f"peer_{name}", None) for name in ("ca", "cert", "key"))
    mode = flags.pop("peer_tls", None)
    if ca is None and cert is None and key is None:
        if mode is not None:
            raise WrongUsage("--peer-tls is given with --peer-ca, --peer-cert and --peer-key")
        use(None)
        return
    if ca is None or cert is None or key is None:
        raise WrongUsage("--peer-ca, --peer-cert and --peer-key are given together or not at all")
    made = PeerTls(ca, cert, key, PeerMode(mode or PeerMode.REQUIRED))
    holder = made.principal()
    if holder.role is not role:
        raise ConfigError(f"--peer-cert {cert} is for {holder}; this command needs one for {role}/…")
    use(made)


def towards(announced: str) -> ssl.SSLContext | None:
    """The context for a connection to a journal copy that `announced` this (`JournalInfo.tls`); None for
    plain TCP.

    The announcement decides only while this process allows both ways. Raises `NotSecured`.
    """
    tls = peer_tls()
    if tls is None:
        if announced == PeerMode.REQUIRED:
            raise NotSecured
        return None
    return tls.client() if tls.mode is PeerMode.REQUIRED or announced else None


def caller_of(transport: asyncio.BaseTransport) -> tuple[bool, Principal | None]:
    """Whether a connection is secured, and the principal in the peer's certificate."""
    if transport.get_extra_info("sslcontext") is None:
        return False, None
    return True, principal_of(transport.get_extra_info("peercert"))


class Shown(NamedTuple):
    """The peer's certificate: its serial number, and when it expires (seconds since 1970)."""

    serial: int
    ends_s: float


def shown_by(transport: asyncio.BaseTransport) -> Shown | None:
    """The peer's certificate; None on a plain connection."""
    certificate = transport.get_extra_info("peercert")
    if not certificate:
        return None
    return Shown(int(certificate["serialNumber"], 16), ssl.cert_time_to_seconds(certificate["notAfter"]))


def check_copy(journal_id: str, transport: asyncio.BaseTransport) -> None:
    """Raises `Impostor` unless a secured connection leads to this journal copy."""
    secured, principal = caller_of(transport)
    if secured:
        check_principal(journal_id, principal)


def check_principal(journal_id: str, principal: Principal | None) -> None:
    """Raises `Impostor` unless the principal is this journal copy."""
    wanted = Principal(PeerRole.JOURNAL, journal_id)
    if principal != wanted:
        raise Impostor(f"its certificate is for {principal or 'none of our processes'}, not for {wanted}")


#: The values of `--peer-tls` in `telemetry.flags.peer_options`.
MODES: Final = tuple(mode.value for mode in PeerMode)
