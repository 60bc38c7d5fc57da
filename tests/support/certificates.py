"""A private certificate authority and certificates that it issues, made by `openssl`."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Pair(NamedTuple):
    """A certificate and its private key, PEM files."""

    cert: Path
    key: Path


class Authority:
    """Signs every certificate that it is asked for."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        subject = ("-subj", f"/CN={name}", "-days", "90")
        signs = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # Python 3.13 insists on it
        self._openssl("req", "-x509", *subject, *signs, *self._new_key(self.pair.key))
        self.name = name

    @property
    def cert(self) -> Path:
        return self.pair.cert

    def issue(self, name: str, *alternatives: str) -> Pair:
        """A certificate for subject alternative names such as `IP:127.0.0.1` or `URI:wallet:key/k1`."""
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        extension = ["-addext", f"subjectAltName={','.join(alternatives)}"] if alternatives else []
        signed = ["-CA", str(self.pair.cert), "-CAkey", str(self.pair.key)]
        subject = ["-subj", f"/CN={name}", "-days", "90", "-addext", "basicConstraints=CA:FALSE"]
        self._openssl("req", "-x509", *subject, *extension, *signed, *self._new_key(pair.key), out=pair.cert)
        pair.key.chmod(0o600)
        return pair

    def revoking(self, cert: Path) -> bytes:
        """A list (PEM) that revokes a certificate of this authority."""
        signer = x509.load_pem_x509_certificate(self.cert.read_bytes())
        key = serialization.load_pem_private_key(self.pair.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        serial, now = x509.load_pem_x509_certificate(cert.read_bytes()).serial_number, datetime.now(UTC)
        row = x509.RevokedCertificateBuilder(serial, now - timedelta(hours=1)).build()
        made = x509.CertificateRevocationListBuilder(
            signer.subject, now - timedelta(hours=1), now + timedelta(days=1)
        ).add_revoked_certificate(row)
        return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _new_key(self, path: Path) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)]

    def _openssl(self, *words: str, out: Path | None = None) -> None:
        target = str(out or self.pair.cert)
        done = subprocess.run(
            ["openssl", *words, "-out", target], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
