"""A service whose certificate is not trusted: the client says so at once, and what to do."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from support.certificates import Authority

from wallet_engine.client import AsyncWallet, OutcomeUnknown, Unavailable, Wallet, wallet


class Service:
    """Makes handshakes with a certificate for 127.0.0.1, and answers nothing. It counts the connections."""

    def __init__(self, authority: Authority) -> None:
        pair = authority.issue("service", "IP:127.0.0.1")
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(pair.cert, pair.key)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            with link, suppress(OSError):
                self._context.wrap_socket(link, server_side=True).close()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def service(authority: Authority) -> Iterator[Service]:
    made = Service(authority)
    yield made
    made.close()


def pay_plainly(url: str, tls: ssl.SSLContext | None) -> None:
    with Wallet(url, tls=tls) as client:
        client.transfer("alice", "bob", "1.00", "USD")


def pay_in_a_loop(url: str, tls: ssl.SSLContext | None) -> None:
    async def main() -> None:
        async with AsyncWallet(url, tls=tls) as client:
            await client.transfer("alice", "bob", "1.00", "USD")

    asyncio.run(main())


@pytest.mark.parametrize("pay", [pay_plainly, pay_in_a_loop])
@pytest.mark.parametrize(("host", "known"), [("127.0.0.1", False), ("localhost", True)])
def test_a_certificate_that_is_not_trusted_is_an_error_at_once(
    service: Service,
    authority: Authority,
    pay: Callable[[str, ssl.SSLContext | None], None],
    host: str,
    known: bool,
) -> None:
    tls = ssl.create_default_context(cafile=authority.cert) if known else None
    with pytest.raises(Unavailable, match=r"not trusted: .*cafile=.*host name") as raised:
        pay(f"https://{host}:{service.port}", tls)
    assert type(raised.value) is Unavailable  # nothing was sent, so the outcome is known
    assert (raised.value.code, raised.value.retryable) == ("untrusted_certificate", False)
    assert service.connections == 1


def test_after_a_try_that_was_lost_the_outcome_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wallet.time, "sleep", lambda _: None)
    distrust = httpx.ConnectError("certificate verify failed")
    distrust.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    distrust.__cause__.verify_message = "self-signed certificate"
    lost: list[Exception] = [distrust, httpx.ReadError("reset")]

    def server(request: httpx.Request) -> httpx.Response:
        raise lost.pop()

    transport = httpx.MockTransport(server)
    with (
        Wallet("https://wallet.test", transport=transport) as client,
        pytest.raises(OutcomeUnknown, match="not trusted") as raised,
    ):
        client.transfer("alice", "bob", "1.00", "USD")
    assert lost == []
    assert isinstance(raised.value.__cause__, Unavailable)
