"""The certificates of a process: whom it shows its metrics, and until when they are good."""

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
    "Port for Prometheus; beyond loopback by TLS, for holders of certificates.  [default: none]"
)


def peers_identify_themselves() -> bool:
    """Whether nobody speaks to this process without a certificate."""
    tls = peer_tls()
    return tls is not None and tls.mode is PeerMode.REQUIRED


def watch_certificates(metrics: Metrics, *files: Path | None) -> None:
    """Have the metrics say until when they are good: those of the flags, and `files`."""
    named = list(files)
    for known in (login().client_tls, zookeeper_tls()):
        named += [known.ca, known.cert]
    peer = peer_tls()
    if peer is not None:
        named += peer.certificates
    metrics.observe_certificates(CertificateEnds(path for path in named if path is not None))


def expose_metrics(metrics: Metrics, host: str, port: int) -> None:
    """At `--metrics-port`: on loopback for everybody, elsewhere by TLS for who has a certificate of the authority.

    Where callers need none (`--insecure`) it speaks plainly. Raises `ConfigError`.
    """
    tls = peer_tls()
    secured = tls is not None and peers_identify_themselves() and not is_loopback(host)
    expose(metrics.registry, host, port, tls.server if tls is not None and secured else None)
