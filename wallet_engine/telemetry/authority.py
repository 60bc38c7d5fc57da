"""A private certificate authority in a folder. It issues the certificates of the cluster's processes.

    ca.pem  ca.key                    the authority. With ca.key anyone can issue certificates for any process.
                                      After the certificate, ca.pem has the revocation list (RFC 5280, CRL), if any
    issued                            a line of JSON for each certificate
    journal-j1.pem  journal-j1.key    certificate and key of each principal

Certificates are X.509 version 3 (RFC 5280) with ECDSA keys on P-256. The holder is a URI: `wallet:<role>/<id>`.
"""

import fcntl
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wallet_engine.domain.errors import ConfigError, WrongUsage
from wallet_engine.domain.principals import PeerRole, Principal, principal_of_uris
from wallet_engine.telemetry.revoked import revoked_serials
from wallet_engine.telemetry.secrets import check_secret_file

CA_DAYS_DEFAULT: Final = 3650
LEAF_DAYS_DEFAULT: Final = 365
DAYS_MAX: Final = 36_500
#: Name of the file that lists the issued certificates.
ISSUED: Final = "issued"
#: Certificates are valid from this long ago, for machines whose clocks are behind.
BEGIN_AGO: Final = timedelta(minutes=10)

#: Roles of processes that accept connections.
_SERVERS: Final = frozenset({PeerRole.JOURNAL, PeerRole.SERVICE, PeerRole.SERVER})


class Pair(NamedTuple):
    """A certificate and its private key, PEM files."""

    cert: Path
    key: Path


class Issued(msgspec.Struct, frozen=True):
    """A line of `issued`: serial number (hexadecimal), principal (`journal/j1`), end (RFC 3339) and hosts."""

    serial: str
    principal: str
    ends: str
    hosts: tuple[str, ...] = ()


class Authority:
    """The authority in a folder. Raises `ConfigError` when there is none, or when others can read its key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pair = Pair(folder / "ca.pem", folder / "ca.key")
        try:
            certificate = x509.load_pem_x509_certificate(self.pair.cert.read_bytes())
            check_secret_file(self.pair.key)
            key = serialization.load_pem_private_key(self.pair.key.read_bytes(), None)
        except OSError as error:
            raise ConfigError(
                f"no authority in {folder} ({error.filename}: {error.strerror}): wallet-admin ca init {folder}"
            ) from None
        except (ValueError, TypeError) as error:
            raise ConfigError(f"cannot use the authority in {folder}: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError(f"{self.pair.key} is not the key of {self.pair.cert}")
        self._certificate, self._key = certificate, key

    def __repr__(self) -> str:
        return f"<Authority {self.folder}>"

    @property
    def ends(self) -> datetime:
        return self._certificate.not_valid_after_utc

    @classmethod
    def create(cls, folder: Path, name: str, days: int = CA_DAYS_DEFAULT) -> "Authority":
        """Create an authority. A new folder is for its owner only. Raises `ConfigError` when there is one already."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BEGIN_AGO)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        pair = Pair(folder / "ca.pem", folder / "ca.key")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {folder}: {error.strerror}") from None
        _write(pair, certificate, key, replace=False)
        return cls(folder)

    def issue(
        self,
        principal: Principal,
        *,
        hosts: Sequence[str] | None = None,
        days: float = LEAF_DAYS_DEFAULT,
        out: Path | None = None,
        renew: bool = False,
    ) -> Pair:
        """Make a new key and its certificate, in `out` or the authority's folder.

        `hosts`: names and addresses of the machine, for clients that check them (browsers, Redis, ZooKeeper).
        None: with `renew` those of the previous certificate, else none. `renew`: replace existing files, the key
        first and then the certificate; a process that reads them in between must try again. Raises `ConfigError`,
        also when the files exist and `renew` is not set.
        """
        if hosts is None:
            hosts = self._hosts_before(principal) if renew else ()
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        ends = now + timedelta(days=days)
        if ends > self.ends:
            raise ConfigError(
                f"the authority ends on {self.ends:%Y-%m-%d}, before this certificate would: give fewer --days"
            )
        names = [x509.UniformResourceIdentifier(principal.uri), *map(_host, hosts)]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(principal)[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BEGIN_AGO)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_purposes(principal.role)), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        pair = pair_of(out or self.folder, principal)
        check_replaceable(pair, replace=renew)
        # Recorded before the files are written: a certificate that is not listed cannot be revoked by name.
        until = f"{ends:%Y-%m-%dT%H:%M:%SZ}"
        self._note(Issued(f"{certificate.serial_number:x}", str(principal), until, tuple(hosts)))
        _write(pair, certificate, key, replace=renew)
        return pair

    def _hosts_before(self, principal: Principal) -> tuple[str, ...]:
        return next((row.hosts for row in reversed(self.issued()) if row.principal == str(principal)), ())

    def issued(self) -> list[Issued]:
        """All issued certificates, the oldest first. Raises `ConfigError`."""
        path = self.folder / ISSUED
        try:
            text = path.read_bytes() if path.exists() else b""
            return [msgspec.json.decode(line, type=Issued) for line in _whole_rows(text).splitlines()]
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from None

    def _note(self, issued: Issued) -> None:
        path = self.folder / ISSUED
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # another process may append a row now
                text = file.read()
                whole = _whole_rows(text)
                if len(whole) < len(text):
                    file.truncate(len(whole))
                file.write(whole[len(text) :] + msgspec.json.encode(issued) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from None

    def revoked(self) -> frozenset[int]:
        """The serial numbers of the revoked certificates. Raises `ConfigError`."""
        try:
            return revoked_serials(self.pair.cert)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read the list in {self.pair.cert}: {error}") from None

    def revoke(self, serials: Iterable[int]) -> None:
        """Add serial numbers to the revocation list, which is valid as long as the authority.

        Raises `ConfigError`.
        """
        now = datetime.now(UTC)
        made = x509.CertificateRevocationListBuilder(self._certificate.subject, now - BEGIN_AGO, self.ends)
        for serial in sorted(self.revoked().union(serials)):
            row = x509.RevokedCertificateBuilder(serial, now - BEGIN_AGO).build()
            made = made.add_revoked_certificate(row)
        encoding = serialization.Encoding.PEM
        parts = (self._certificate, made.sign(self._key, hashes.SHA256()))
        fresh = self.pair.cert.with_name(f"{self.pair.cert.name}.new")
        try:
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
                file.writelines(part.public_bytes(encoding) for part in parts)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self.pair.cert)
        except OSError as error:
            raise ConfigError(f"cannot write {self.pair.cert}: {error.strerror}") from None


def _whole_rows(text: bytes) -> bytes:
    """The rows of `issued`, each with its newline, without a last row that was not written whole.

    A certificate is written after its row, so nobody has the one of such a row.
    """
    last = text[text.rfind(b"\n") + 1 :]
    if not last:
        return text
    try:
        msgspec.json.decode(last, type=Issued)
    except msgspec.MsgspecError:
        return text.removesuffix(last)
    return text + b"\n"


def pair_of(folder: Path, principal: Principal) -> Pair:
    """The paths of a principal's certificate and key."""
    stem = f"{principal.role}-{principal.id}"
    return Pair(folder / f"{stem}.pem", folder / f"{stem}.key")


def holder_of(cert: Path) -> tuple[Principal | None, datetime]:
    """The holder of a certificate file (None when it names none), and its end. Raises `ConfigError`."""
    try:
        return _holder(x509.load_pem_x509_certificate(cert.read_bytes()))
    except OSError as error:
        raise ConfigError(f"cannot read {cert}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{cert} is no certificate (PEM): {error}") from None


def holder_shown(der: bytes) -> tuple[Principal | None, datetime]:
    """The holder and the end of a certificate in DER, as a TLS connection gives it. Raises ValueError."""
    return _holder(x509.load_der_x509_certificate(der))


def _holder(certificate: x509.Certificate) -> tuple[Principal | None, datetime]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None, certificate.not_valid_after_utc
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return principal_of_uris(uris), certificate.not_valid_after_utc


def serial_in(cert: Path) -> int:
    """The serial number of the certificate in a file. Raises `ConfigError`."""
    try:
        return x509.load_pem_x509_certificate(cert.read_bytes()).serial_number
    except OSError as error:
        raise ConfigError(f"cannot read {cert}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{cert} is no certificate (PEM): {error}") from None


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    if not host or not host.isascii() or any(sign in host for sign in " /:@"):
        raise WrongUsage(f"--hosts: {host[:80]!r} is neither a name nor an address")
    return x509.DNSName(host)


def _purposes(role: PeerRole) -> list[x509.ObjectIdentifier]:
    """The extended key usages of a role. Every role has the client's: servers connect to each other too."""
    server = [ExtendedKeyUsageOID.SERVER_AUTH] if role in _SERVERS else []
    return [*server, ExtendedKeyUsageOID.CLIENT_AUTH]


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def check_replaceable(pair: Pair, *, replace: bool) -> None:
    """Raises `ConfigError` for files that are there, unless they are to be replaced."""
    present = [path for path in (pair.key, pair.cert) if path.exists()]
    if present and not replace:
        raise ConfigError(f"{present[0]} is there already, and stays as it is")


def _write(
    pair: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, *, replace: bool
) -> None:
    """Write key and certificate, the key first: so no certificate is ever without its key.

    Raises `ConfigError`, also for existing files unless `replace`.
    """
    texts = (
        (
            pair.key,
            0o600,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        ),
        (pair.cert, 0o644, certificate.public_bytes(serialization.Encoding.PEM)),
    )
    check_replaceable(pair, replace=replace)
    written: list[Path] = []
    try:
        for path, mode, text in texts:
            fresh = path.with_name(f"{path.name}.new")
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                written.append(fresh)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for path, _, _ in texts:
            path.with_name(f"{path.name}.new").rename(path)
    except OSError as error:
        for fresh in written:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {error.filename or pair.cert}: {error.strerror}") from None
