"""Metrics at their own port: a client without a required certificate gets nothing, and no client blocks others."""

import contextlib
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.principals import checked
from wallet_engine.journal.peer_tls import PeerTls
from wallet_engine.telemetry import exposing
from wallet_engine.telemetry.authority import Authority, Pair
from wallet_engine.telemetry.exposing import Context, expose

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("ca"), "test")


@contextlib.contextmanager
def exposed(tls: Context | None) -> Iterator[int]:
    registry = CollectorRegistry()
    Gauge("answer", "It.", registry=registry).set(42)
    server = expose(registry, HOST, 0, tls)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def client(ca: Path, pair: Pair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


def metrics(port: int, tls: ssl.SSLContext | None = None) -> str:
    url = f"{'http' if tls is None else 'https'}://{HOST}:{port}/metrics"
    with urllib.request.urlopen(url, timeout=10, context=tls) as answer:
        return str(answer.read().decode())


def refused(port: int, tls: ssl.SSLContext | None) -> bool:
    try:
        metrics(port, tls)
    except OSError:
        return True
    return False


def test_on_loopback_everybody_reads() -> None:
    with exposed(None) as port:
        assert "answer 42.0" in metrics(port)


def test_g13_elsewhere_who_has_a_certificate_of_ours_reads_and_nobody_else(
    authority: Authority, tmp_path: Path
) -> None:
    ca = authority.pair.cert
    own = PeerTls(ca, *authority.issue(checked("journal", "j1")))
    prometheus = authority.issue(checked("key", "prometheus"))
    other = Authority.create(tmp_path / "other", "other").issue(checked("key", "prometheus"))
    with exposed(own.server) as port:
        assert "answer 42.0" in metrics(port, client(ca, prometheus))
        for stranger in (None, client(ca, None), client(ca, other)):
            assert refused(port, stranger)
        [row] = [row for row in authority.issued() if row.principal == "key/prometheus"]
        authority.revoke({int(row.serial, 16)})
        assert refused(port, client(ca, prometheus))
        assert "answer 42.0" in metrics(port, client(ca, authority.issue(checked("key", "ann"))))


@pytest.mark.parametrize("secured", [False, True])
def test_g10_who_says_nothing_keeps_nobody_out(
    authority: Authority, secured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposing, "SILENT_S_MAX", 600.0)  # so that this time-out does not end them
    ca = authority.pair.cert
    tls = PeerTls(ca, *authority.issue(checked("journal", "j2"), renew=True)).server if secured else None
    caller = client(ca, authority.issue(checked("key", "silence"), renew=True)) if secured else None
    with exposed(tls) as port, contextlib.ExitStack() as silent:
        before = threading.active_count()
        for _ in range(3 * exposing.CONNECTIONS_MAX):
            silent.enter_context(socket.create_connection((HOST, port), 10))
        assert "answer 42.0" in metrics(port, caller)
        give_up_s = time.monotonic() + 30
        while threading.active_count() > before + exposing.CONNECTIONS_MAX + 5:
            assert time.monotonic() < give_up_s, f"{threading.active_count() - before} threads"
            time.sleep(0.01)


def test_a_port_that_is_taken_is_one_line() -> None:
    with exposed(None) as port, pytest.raises(ConfigError, match=f"--metrics-port {port}: Address already"):
        expose(CollectorRegistry(), HOST, port)
