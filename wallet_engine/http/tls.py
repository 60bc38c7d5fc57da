"""HTTPS: this server's certificate, the authority of client certificates, and reloading both when the files change."""

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from wallet_engine.domain.errors import ConfigError
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.revoked import believe, revoked_in
from wallet_engine.telemetry.secrets import check_secret_file

#: Seconds between two checks of the files.
LOOK_S: Final = 2.0
#: Prefix of the URI in a client's certificate; the rest is the id of its API key.
KEY_URI: Final = "wallet:key/"

log = get_logger(__name__)


class Shown(NamedTuple):
    """A client's certificate: the name of its authority in DER, its serial number, and its end in Unix seconds."""

    issuer: bytes
    serial: int
    ends_s: float


class Certificates:
    """The TLS settings of one server, from PEM files. New connections use the present content of the files.

    With `client_ca`, a client may show a certificate of that authority, but does not have to: the gate decides whether
    it needs a key or a certificate. Raises `ConfigError`.

    A connection lasts, and a session can be resumed without a look at the certificate. So the gate asks `has_ended`
    for every request.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        self._cert = cert
        self._key = key
        self._client_ca = client_ca
        self._seen = self._look()
        self._current = self._read()
        self._revoked = self._read_revoked()
        self.context = self._read()
        # Called for each connection, whether or not it names a server.
        self.context.sni_callback = self._choose

    def __repr__(self) -> str:
        return f"<Certificates {self._cert}>"

    async def follow(self) -> None:
        """Reload the files whenever one of them changes. An error is logged, and changes nothing."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                seen = self._look()
                if seen != self._seen:
                    self._current, self._revoked = self._read(), self._read_revoked()
                    self._seen = seen
                    log.info("certificates reloaded", cert=str(self._cert))
            except ConfigError as error:
                log.error("certificates not reloaded, the old ones stay in use", error=str(error))

    def has_ended(self, shown: Shown) -> bool:
        """Whether the certificate has expired, or was revoked."""
        return time.time() >= shown.ends_s or shown[:2] in self._revoked

    def _read_revoked(self) -> frozenset[tuple[bytes, int]]:
        try:
            return frozenset() if self._client_ca is None else revoked_in(self._client_ca)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cannot read the list of revoked certificates in {self._client_ca}: {error}"
            ) from None

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        """A value that changes when a file does."""
        try:
            found = [path.stat() for path in (self._cert, self._key, self._client_ca) if path is not None]
        except OSError as error:
            raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from None
        return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in found)

    def _read(self) -> ssl.SSLContext:
        check_secret_file(self._key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            # The empty password makes an encrypted key fail, instead of asking for a password.
            context.load_cert_chain(self._cert, self._key, password=lambda: "")
            if self._client_ca is not None:
                believe(context, self._client_ca)
                context.verify_mode = ssl.CERT_OPTIONAL
        except (OSError, ValueError) as error:
            files = ", ".join(str(path) for path in (self._cert, self._key, self._client_ca) if path)
            raise ConfigError(f"cannot use {files} for TLS: {error}") from None
        return context


def shown_on(connection: ssl.SSLObject) -> Shown | None:
    """The certificate that the client has shown."""
    encoded = connection.getpeercert(binary_form=True)
    if not encoded:
        return None
    from cryptography import x509  # that takes 0.1 s, which a server without such clients need not

    found = x509.load_der_x509_certificate(encoded)
    return Shown(found.issuer.public_bytes(), found.serial_number, found.not_valid_after_utc.timestamp())


def key_of_certificate(certificate: dict[str, Any] | None) -> str | None:
    """The API key id in a client's certificate (a result of `getpeercert`); None without a certificate.

    Empty when the certificate names no key, or several.
    """
    if not certificate:
        return None
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    keys = [name.removeprefix(KEY_URI) for name in names if name.startswith(KEY_URI)]
    return keys[0] if len(keys) == 1 else ""
