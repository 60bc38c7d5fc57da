"""The certificates of a process: who may read its metrics, and when the certificates expire."""

from pathlib import Path
from typing import Final

from wallet_engine.journal.peer_tls import PeerMode, peer_tls
from wallet_engine.redis_store.login import login
from wallet_engine.routing.zookeeper_tls import zookeeper_tls
from wallet_engine.telemetry.certificate_ends import CertificateEnds
from wallet_engine.telemetry.exposing import expose
from wallet_engine.telemetry.loopback import is_loopback
from wallet_engine.telemetry.metrics import Metrics

METRICS_PORT_HELP: Final = (
    "Port for Prometheus; beyond loopback with TLS, for holders of our certificates.  [default: none]"
)


def peers_identify_themselves() -> bool:
    """Whether callers of this process need a certificate."""
    tls = peer_tls()
    return tls is not None and tls.mode is PeerMode.REQUIRED


def watch_certificates(metrics: Metrics, *files: Path | None) -> None:
    """Add metrics of when certificates expire: those of the flags, and `files`."""
    named = list(files)
    for known in (login().client_tls, zookeeper_tls()):
        named += [known.ca, known.cert]
    peer = peer_tls()
    if peer is not None:
        named += peer.certificates
    metrics.observe_certificates(CertificateEnds(path for path in named if path is not None))


def expose_metrics(metrics: Metrics, host: str, port: int) -> None:
    """Serve metrics at `--metrics-port`: on loopback to everybody; elsewhere by TLS, to holders of our certificates.

    Where callers need no certificate (`--insecure`) it is served without TLS. Raises `ConfigError`.
    """
    tls = peer_tls()
    secured = tls is not None and peers_identify_themselves() and not is_loopback(host)
    expose(metrics.registry, host, port, tls.server if tls is not None and secured else None)
