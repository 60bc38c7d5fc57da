"""HTTPS on a real server, with curl: the caller named by a certificate, and certificates that are renewed."""

import asyncio
import json
import os
import resource
import shutil
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support.certificates import Authority, Pair
from unit.http.test_direct import ANSWER_S_MAX, request_bytes
from unit.http.test_malformed import GOOD, SINGLE
from unit.http.wallet_double import WalletDouble

from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.principals import PeerRole, Principal
from wallet_engine.http import tls
from wallet_engine.http.application import create_app
from wallet_engine.http.gate import Gate
from wallet_engine.http.server import serve_http
from wallet_engine.http.tls import Certificates, Shown, key_of_certificate
from wallet_engine.routing.api_keys import ApiKey, new_key
from wallet_engine.service.keyring import Keyring
from wallet_engine.telemetry.authority import Authority as PrivateAuthority
from wallet_engine.telemetry.descriptors import RESERVED_MAX, RESERVED_PART
from wallet_engine.telemetry.metrics import Metrics

BODY = json.dumps(GOOD)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    return authority.issue("server", "IP:127.0.0.1", "DNS:localhost")


class Running:
    def __init__(
        self, url: str, wallet: WalletDouble, ring: Keyring, stop: asyncio.Event, task: asyncio.Task[None]
    ) -> None:
        self.url, self.wallet, self.ring, self.stop, self.task = url, wallet, ring, stop, task

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def curl(self, *flags: str, path: str = SINGLE, body: str | None = BODY) -> str:
        """The output of curl: the answer followed by its status; `failed N` without an answer."""
        said = ["--data", body, "-H", "content-type: application/json"] if body is not None else []
        process = await asyncio.create_subprocess_exec(
            *("curl", "-s", "--max-time", "15", "-w", " %{http_code}", *said, *flags, self.url + path),
            stdout=asyncio.subprocess.PIPE,
        )
        stdout, _ = await asyncio.wait_for(process.communicate(), ANSWER_S_MAX)
        return f"failed {process.returncode}" if process.returncode else stdout.decode()


@asynccontextmanager
async def serving(certificates: Certificates, *keys: ApiKey, **settings: Any) -> AsyncIterator[Running]:
    ring = Keyring(("@bank",))
    ring.replace({key.id: key for key in keys})
    wallet, metrics = WalletDouble(), Metrics()
    stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
    app = create_app(wallet, metrics=metrics, gate=Gate(metrics, ring))
    task = asyncio.create_task(
        serve_http(
            app, "127.0.0.1", 0, stop=stop, on_listening=url.set_result, certificates=certificates, **settings
        )
    )
    try:
        yield Running(await asyncio.wait_for(url, ANSWER_S_MAX), wallet, ring, stop, task)
    finally:
        stop.set()
        await asyncio.wait_for(task, ANSWER_S_MAX)


def key(name: str, role: str = "payer", accounts: tuple[str, ...] = ()) -> tuple[ApiKey, str]:
    return new_key(ApiKey(id="", name=name, role=role, accounts=accounts))


def client(pair: Pair) -> tuple[str, ...]:
    return ("--cert", str(pair.cert), "--key", str(pair.key))


def test_https_with_keys(authority: Authority, server: Pair) -> None:
    async def scenario() -> None:
        payer, shown = key("shop")
        async with serving(Certificates(*server), payer) as running:
            assert running.url.startswith("https://")
            trusted = ("--cacert", str(authority.cert))
            assert (await running.curl(*trusted)).endswith(" 401")
            bearer = (*trusted, "-H", f"Authorization: Bearer {shown}")
            assert '"status":"success"' in await running.curl(*bearer)
            assert '"status":"success"' in await running.curl(*bearer, "--http2")
            assert await running.curl() == "failed 60"  # an authority that curl does not know
            assert await running.curl(*bearer, "--tls-max", "1.1") == "failed 35"
            plain = running.url.replace("https", "http")
            others = (running.wallet, running.ring, running.stop, running.task)
            assert (await Running(plain, *others).curl(*bearer)).startswith("failed ")
            assert len(running.wallet.calls) == 2

    uvloop.run(scenario())


def test_a_certificate_is_the_key_that_it_is_for(authority: Authority, server: Pair, tmp_path: Path) -> None:
    async def scenario() -> None:
        (payer, _), (auditor, shown) = key("shop", accounts=("alice",)), key("auditor", "auditor")
        strangers = Authority(tmp_path / "strangers", "strangers")
        theirs = client(strangers.issue("forged", f"URI:wallet:key/{payer.id}"))
        mine = client(authority.issue("mine", "DNS:shop.example", f"URI:wallet:key/{payer.id}"))
        unnamed = client(authority.issue("unnamed", "DNS:shop.example"))
        double = client(
            authority.issue("double", f"URI:wallet:key/{payer.id}", f"URI:wallet:key/{auditor.id}")
        )
        unknown = client(authority.issue("unknown", "URI:wallet:key/nobody"))
        certificates = Certificates(*server, client_ca=authority.cert)
        async with serving(certificates, payer, auditor) as running:
            trusted = ("--cacert", str(authority.cert))
            assert '"status":"success"' in await running.curl(*trusted, *mine)
            other = json.dumps({**GOOD, "from_account": "bob", "to_account": "alice"})
            assert (await running.curl(*trusted, *mine, body=other)).endswith(" 403")
            for nobody in ((), unnamed, double, unknown):
                assert (await running.curl(*trusted, *nobody)).endswith(" 401"), nobody
            # A certificate of another authority is refused in the handshake.
            assert (await running.curl(*trusted, *theirs)).startswith("failed ")
            # A key in the request decides. A caller with a key needs no certificate.
            bearer = ("-H", f"Authorization: Bearer {shown}")
            for flags in ((*mine, *bearer), bearer):
                assert (await running.curl(*trusted, *flags)).endswith(" 403")
                assert (await running.curl(*trusted, *flags, path="/v1/accounts/bob", body=None)).endswith(
                    " 200"
                )
            assert (await running.curl(*trusted, path="/readyz", body=None)).endswith(" 200")
            running.ring.replace({auditor.id: auditor})
            assert (await running.curl(*trusted, *mine)).endswith(" 401")
            assert [name for name, _ in running.wallet.calls] == ["transfer", "account", "account"]

    uvloop.run(scenario())


def test_certificates_are_read_anew_when_their_files_change(
    authority: Authority, server: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(tls, "LOOK_S", 0.02)
        payer, _ = key("shop")
        fresh = Authority(tmp_path / "fresh", "fresh")
        ours = [tmp_path / name for name in ("cert.pem", "key.pem", "clients.pem")]

        def install(*sources: Path) -> None:
            """Replace each file atomically, as tools that renew certificates do."""
            for source, target in zip(sources, ours, strict=True):
                scratch = target.with_suffix(".new")
                shutil.copy(source, scratch)
                scratch.chmod(0o600)
                os.replace(scratch, target)

        install(*server, authority.cert)
        old = client(authority.issue("old", f"URI:wallet:key/{payer.id}"))
        new = client(fresh.issue("new", f"URI:wallet:key/{payer.id}"))
        async with serving(Certificates(*ours), payer) as running:
            assert '"status":"success"' in await running.curl("--cacert", str(authority.cert), *old)
            lasting = ssl.create_default_context(cafile=authority.cert)
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=lasting)
            ours[0].write_text("half a certificate")  # an unusable file changes nothing
            await asyncio.sleep(0.1)
            assert '"status":"success"' in await running.curl("--cacert", str(authority.cert), *old)
            install(*fresh.issue("server", "IP:127.0.0.1"), fresh.cert)
            async with asyncio.timeout(ANSWER_S_MAX):
                while (await running.curl("--cacert", str(fresh.cert), *new)).startswith("failed"):
                    await asyncio.sleep(0.02)
            assert '"status":"success"' in await running.curl("--cacert", str(fresh.cert), *new)
            assert await running.curl("--cacert", str(authority.cert), *old) == "failed 60"
            assert (await running.curl("--cacert", str(fresh.cert), *old)).startswith("failed ")
            # An existing connection continues.
            writer.write(request_bytes(BODY.encode(), "authorization: Bearer none"))
            assert b" 401 " in await asyncio.wait_for(reader.readline(), ANSWER_S_MAX)
            writer.transport.abort()

    uvloop.run(scenario())


class Caller:
    """A connection with a client certificate, that lasts."""

    def __init__(self, context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), ANSWER_S_MAX)
        self.tls = context.wrap_socket(plain, server_hostname="localhost", session=session)

    def pays(self, *headers: str) -> bytes:
        """The status of a payment; empty when the connection was closed."""
        try:
            self.tls.sendall(request_bytes(BODY.encode(), "content-type: application/json", *headers))
            return self.tls.recv(65536)[9:12]
        except OSError:
            return b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_g13_a_certificate_that_was_revoked_is_refused_also_on_an_open_connection_and_when_resumed(
    server: Pair,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: ssl.TLSVersion,
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(tls, "LOOK_S", 0.02)
        (payer, shown), (other, _) = key("shop"), key("other")
        callers = PrivateAuthority.create(tmp_path / "callers", "callers")
        strangers = PrivateAuthority.create(tmp_path / "strangers", "strangers")
        both = tmp_path / "both.pem"
        both.write_bytes(callers.pair.cert.read_bytes() + strangers.pair.cert.read_bytes())

        def context(id_: str) -> ssl.SSLContext:
            made = ssl.create_default_context(cafile=authority.cert)
            made.minimum_version = made.maximum_version = version
            made.load_cert_chain(*callers.issue(Principal(PeerRole.KEY, id_)))
            return made

        theirs, mine = context(other.id), context(payer.id)
        made = Certificates(*server, client_ca=both)
        async with serving(made, payer, other) as running, AsyncExitStack() as opened:

            async def connect(*words: Any) -> Caller:
                caller = await asyncio.to_thread(Caller, *words)
                opened.callback(caller.tls.close)
                return caller

            lasting, kept = await connect(mine, running.port), await connect(theirs, running.port)
            assert await asyncio.to_thread(lasting.pays) == b"200"
            assert await asyncio.to_thread(kept.pays) == b"200"
            session = lasting.tls.session
            again = await connect(mine, running.port, session)
            assert await asyncio.to_thread(again.pays) == b"200"
            serials = {int(row.serial, 16) for row in callers.issued() if row.principal == f"key/{payer.id}"}
            callers.revoke(serials)
            strangers.revoke(())
            both.write_bytes(callers.pair.cert.read_bytes() + strangers.pair.cert.read_bytes())
            async with asyncio.timeout(ANSWER_S_MAX):
                while await asyncio.to_thread(lasting.pays) == b"200":
                    await asyncio.sleep(0.02)
            assert await asyncio.to_thread(lasting.pays) in (b"401", b"")
            for resumed in (None, session, again.tls.session):
                try:
                    anew = await connect(mine, running.port, resumed)
                except OSError:
                    continue
                assert await asyncio.to_thread(anew.pays) in (b"401", b"")
            assert await asyncio.to_thread(kept.pays) == b"200"
            # A key in the request decides, as before.
            bearer = f"authorization: Bearer {shown}"
            assert await asyncio.to_thread(kept.pays, bearer) == b"200"

    uvloop.run(scenario())


def test_strangers_who_do_not_shake_hands_stop_nobody(authority: Authority, server: Pair) -> None:
    async def scenario() -> None:
        payer, shown = key("shop")
        async with serving(Certificates(*server), payer) as running:
            silent = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(50)]
            for number, (_, writer) in enumerate(silent):
                writer.write(b"GET / HTTP/1.1\r\n\r\n" if number % 2 else b"\x16\x03\x01")
            bearer = ("--cacert", str(authority.cert), "-H", f"Authorization: Bearer {shown}")
            assert '"status":"success"' in await running.curl(*bearer)
            for _, writer in silent:
                writer.transport.abort()

    uvloop.run(scenario())


#: Connects to a port many times, says so, and keeps silent connections until its input ends.
STRANGERS = """
import socket, sys
held = []
for _ in range(600):
    try:
        held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5))
    except OSError:
        pass
print("held", flush=True)
sys.stdin.read()
"""


def test_g10_strangers_who_do_not_shake_hands_leave_descriptors(authority: Authority, server: Pair) -> None:
    """G10: the last ones are the process's own. They were kept for a minute by whoever connected."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def scenario() -> None:
        payer, shown = key("shop")
        async with serving(Certificates(*server), payer) as running:
            open_before = len(os.listdir("/proc/self/fd"))
            limit = max(map(int, os.listdir("/proc/self/fd"))) + 110
            kept = min(RESERVED_MAX, limit // RESERVED_PART)
            strangers = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", STRANGERS, str(running.port)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert strangers.stdin is not None
            assert strangers.stdout is not None
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
                assert await asyncio.wait_for(strangers.stdout.readline(), ANSWER_S_MAX) == b"held\n"
                await asyncio.sleep(1)
                assert max(map(int, os.listdir("/proc/self/fd"))) < limit - kept + 2
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
                strangers.stdin.close()
                await strangers.wait()
            bearer = ("--cacert", str(authority.cert), "-H", f"Authorization: Bearer {shown}")
            assert '"status":"success"' in await running.curl(*bearer)
            async with asyncio.timeout(ANSWER_S_MAX):
                while len(os.listdir("/proc/self/fd")) > open_before + 5:
                    await asyncio.sleep(0.05)

    uvloop.run(scenario())


def test_the_end_of_a_connection_is_no_warning(
    authority: Authority, server: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """Each one that a client ended wrote a line into the log, that something has no effect when using ssl."""

    async def scenario() -> None:
        payer, shown = key("shop")
        async with serving(Certificates(*server), payer) as running:
            bearer = ("--cacert", str(authority.cert), "-H", f"Authorization: Bearer {shown}")
            assert '"status":"success"' in await running.curl(*bearer)
            await asyncio.sleep(0.1)

    uvloop.run(scenario())
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


def test_who_has_connected_when_the_process_ends_is_answered_and_nobody_after(
    authority: Authority, server: Pair
) -> None:
    async def scenario() -> None:
        payer, shown = key("shop")
        async with serving(Certificates(*server), payer, leave_seconds=0.3) as running:
            context = ssl.create_default_context(cafile=authority.cert)
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
            running.stop.set()
            await asyncio.sleep(0.05)
            late = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
            for reads, writes in ((reader, writer), late):
                writes.write(request_bytes(BODY.encode(), f"Authorization: Bearer {shown}"))
                answer = await asyncio.wait_for(reads.read(), ANSWER_S_MAX)
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert b"connection: close" in answer
                writes.close()
            await asyncio.wait_for(running.task, ANSWER_S_MAX)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", running.port, ssl=context)

    uvloop.run(scenario())


def test_what_cannot_be_used_is_one_line(authority: Authority, server: Pair, tmp_path: Path) -> None:
    open_key = tmp_path / "open.key"
    shutil.copy(server.key, open_key)
    open_key.chmod(0o644)
    other = authority.issue("other")
    for cert, private, said in (
        (tmp_path / "none", server.key, "cannot read .*none"),
        (server.cert, open_key, "others can read"),
        (server.cert, other.key, "for TLS: .*KEY_VALUES_MISMATCH"),
        (server.key, server.key, "cannot use .* for TLS"),
    ):
        with pytest.raises(ConfigError, match=said) as error:
            Certificates(cert, private)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="for TLS"):
        Certificates(*server, client_ca=server.key)


def test_g13_an_expired_certificate_has_ended(server: Pair, authority: Authority) -> None:
    certificates, now_s = Certificates(*server, client_ca=authority.cert), time.time()
    assert certificates.has_ended(Shown(b"", 1, now_s - 1))
    assert not certificates.has_ended(Shown(b"", 1, now_s + 60))


def test_the_key_of_a_certificate() -> None:
    def named(*uris: str) -> dict[str, object]:
        return {"subjectAltName": (("DNS", "a"), *(("URI", uri) for uri in uris))}

    assert key_of_certificate(None) is None
    assert key_of_certificate({}) is None
    assert key_of_certificate(named("wallet:key/k1")) == "k1"
    assert key_of_certificate(named("https://a", "wallet:key/k1")) == "k1"
    for uris in ((), ("wallet:journal/j1",), ("wallet:key/a", "wallet:key/b"), ("wallet:keys/a",)):
        assert key_of_certificate(named(*uris)) == ""
