"""Where a process serves its metrics, to which clients, and the certificates in its metrics."""

import re
import shutil
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.prometheus import prometheus
from support.replicated import wait_until

from wallet_engine.app.certificates import expose_metrics, watch_certificates
from wallet_engine.dev.ports import free_port
from wallet_engine.domain.principals import checked
from wallet_engine.journal import peer_tls
from wallet_engine.journal.peer_tls import PeerMode, PeerTls
from wallet_engine.redis_store import login
from wallet_engine.redis_store.login import Login
from wallet_engine.telemetry.authority import Authority
from wallet_engine.telemetry.metrics import Metrics

CONFIGURATION = Path(__file__).resolve().parents[3] / "cluster_config" / "prometheus.yml"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority.create(tmp_path_factory.mktemp("ca"), "test")
    authority.issue(checked("journal", "j1"))
    return authority


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    yield
    peer_tls.use(None)
    login.use(Login())


def read(port: int, tls: ssl.SSLContext | None = None) -> str:
    url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=10, context=tls) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("mode", "host", "open_to_all"),
    [
        (PeerMode.REQUIRED, "0.0.0.0", False),
        (PeerMode.REQUIRED, "127.0.0.1", True),
        # Accepted only with --insecure.
        (PeerMode.OPTIONAL, "0.0.0.0", True),
        (None, "0.0.0.0", True),
    ],
)
def test_g13_beyond_loopback_metrics_are_for_who_says_who_he_is(
    authority: Authority, mode: PeerMode | None, host: str, open_to_all: bool
) -> None:
    ca, pair = authority.pair.cert, authority.folder / "journal-j1"
    if mode is not None:
        peer_tls.use(PeerTls(ca, pair.with_suffix(".pem"), pair.with_suffix(".key"), mode))
    metrics, port = Metrics(), free_port()
    watch_certificates(metrics)
    expose_metrics(metrics, host, port)
    assert ("wallet_journal_entries" in read(port)) is open_to_all
    known = ssl.create_default_context(cafile=ca)
    known.check_hostname = False
    known.load_cert_chain(pair.with_suffix(".pem"), pair.with_suffix(".key"))
    assert ("wallet_journal_entries" in read(port, known)) is not open_to_all


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="there is no prometheus here")
def test_g13_prometheus_scrapes_a_journal_by_the_configuration_that_we_ship(
    authority: Authority, tmp_path: Path
) -> None:
    """It gets nothing without its certificate, or with a certificate of another name."""
    port, unnamed = free_port(), free_port()
    for where, name, hosts in ((port, "j2", ["127.0.0.1"]), (unnamed, "j1", [])):
        peer_tls.use(
            PeerTls(authority.pair.cert, *authority.issue(checked("journal", name), hosts=hosts, renew=True))
        )
        expose_metrics(Metrics(), "0.0.0.0", where)
    authority.issue(checked("key", "prometheus"), out=tmp_path)
    shutil.copy(authority.pair.cert, tmp_path)
    shutil.copy(CONFIGURATION.with_name("alerts.yml"), tmp_path)
    config = yaml.safe_load(CONFIGURATION.read_text())
    (job,) = [each for each in config["scrape_configs"] if each["job_name"] == "wallet-journal"]
    tls = {"ca_file": job["tls_config"]["ca_file"]}
    jobs = [
        job | {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{where}"]}], **other}
        for name, where, other in (
            ("ours", port, {}),
            ("bare", port, {"tls_config": tls}),
            ("unnamed", unnamed, {}),
        )
    ]
    config |= {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "scrape_configs": jobs}
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    with prometheus(file, tmp_path) as running:

        def found() -> dict[str, str]:
            return dict(running.health())

        wait_until(lambda: found() and "unknown" not in found().values(), "all were scraped", 30.0, found)
        assert found()["ours"] == "up"
        # Prometheus reports the reason, or only the end of the connection if that arrives first.
        assert re.search("certificate required|broken pipe|connection reset", found()["bare"]), found()
        assert "doesn't contain any IP SANs" in found()["unnamed"]


def test_a_process_tells_of_every_certificate_that_its_flags_name(
    authority: Authority, tmp_path: Path
) -> None:
    ca = authority.pair.cert
    own = authority.issue(checked("service", "api-1"))
    redis = authority.issue(checked("server", "redis-1"))
    https = authority.issue(checked("server", "https"), out=tmp_path)
    peer_tls.use(PeerTls(ca, *own))
    login.use(Login(ca=ca, cert=redis.cert, key=redis.key))
    metrics = Metrics()
    watch_certificates(metrics, https.cert, None)
    text = metrics.render().decode()
    for file, holder in (
        (ca, ""),
        (own.cert, "service/api-1"),
        (redis.cert, "server/redis-1"),
        (https.cert, "server/https"),
    ):
        wanted = f'wallet_certificate_ends_timestamp_seconds{{file="{file}",holder="{holder}"}}'
        assert text.count(wanted) == 1
