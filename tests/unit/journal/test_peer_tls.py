"""Mutual TLS between the engine's processes: accepted connections in both modes, and renewed certificates."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from unit.journal.samples import append
from unit.journal.test_link_sockets import Memory, until

from wallet_engine.domain.errors import ConfigError, Outage
from wallet_engine.domain.principals import PeerRole, checked
from wallet_engine.journal import door, link_server, peer_tls
from wallet_engine.journal.copies_wire import PeerHello, StateAsk, ToCopy
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.feed_client import CopyAddress, FeedClient
from wallet_engine.journal.feed_server import FeedServer, FeedSession
from wallet_engine.journal.link_client import LinkClient
from wallet_engine.journal.link_server import LinkServer
from wallet_engine.journal.link_wire import Receipts, ServiceHello, encode
from wallet_engine.journal.peer_tls import Impostor, NotSecured, PeerMode, PeerTls
from wallet_engine.journal.peers import Peer
from wallet_engine.journal.receipts_tracker import ReceiptTracker
from wallet_engine.journal.speakers import MAY_SAY
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.telemetry.authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("ca"), "test")


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    yield
    peer_tls.use(None)


def tls_of(authority: Authority, who: str, mode: PeerMode = PeerMode.REQUIRED) -> PeerTls:
    pair = authority.issue(checked(*who.split("/")), renew=True)
    return PeerTls(authority.pair.cert, *pair, mode)


@asynccontextmanager
async def served(
    tls: PeerTls | None, memory: Memory | None = None
) -> AsyncIterator[tuple[LinkServer, tuple[str, int]]]:
    server = LinkServer(memory or Memory(), lambda shard, reason: None, tls=tls)
    address = await server.start("127.0.0.1", 0)
    try:
        yield server, address
    finally:
        await server.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), 30)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(limited())


async def linked(address: tuple[str, int], announced: str = "required", journal_id: str = "j1") -> LinkClient:
    client = LinkClient(journal_id, address, ReceiptTracker(1))
    client.tls = announced
    client.start()
    await until(lambda: client.connected or client.refusal is not None)
    return client


def test_g13_a_service_and_a_copy_know_each_other(authority: Authority) -> None:
    async def test() -> None:
        memory = Memory()
        async with served(tls_of(authority, "journal/j1"), memory) as (server, address):
            peer_tls.use(tls_of(authority, "service/api-1"))
            client = await linked(address)
            assert client.connected
            (connection,) = server.connections
            assert str(connection.principal) == "service/api-1"
            done: list[int] = []
            client.tracker.expect(1, 1, "n", lambda: done.append(1))
            server.publish(memory.write((1, "n", 1)))
            await until(lambda: done == [1])
            await client.close()

    run(test)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("journal/j2", "its certificate is for journal/j2, not for journal/j1"),
        ("service/j1", "its certificate is for service/j1, not for journal/j1"),
    ],
)
def test_g13_who_has_not_the_certificate_of_a_copy_gives_no_receipts(
    authority: Authority, shown: str, said: str
) -> None:
    """A wrong address in the directory does not change that."""

    async def test() -> None:
        async with served(tls_of(authority, shown)) as (_, address):
            peer_tls.use(tls_of(authority, "service/api-1"))
            client = await linked(address)
            assert (client.refusal, client.tracker.copies) == (said, 0)
            await client.close()
            peer_tls.use(tls_of(authority, "journal/j3"))
            with pytest.raises(Impostor, match="not for journal/j1"):
                await Peer.connect("j1", f"{address[0]}:{address[1]}", "j3", "required")

    run(test)


def test_g13_a_certificate_of_another_authority_is_refused_by_both(
    authority: Authority, tmp_path: Path
) -> None:
    async def test() -> None:
        other = Authority.create(tmp_path / "other", "other")
        async with served(tls_of(authority, "journal/j1")) as (server, address):
            peer_tls.use(tls_of(other, "service/api-1"))
            client = await linked(address)
            assert client.refusal is not None
            assert "CERTIFICATE_VERIFY_FAILED" in client.refusal
            assert not server.open
            await client.close()

    run(test)


def test_a_process_without_certificates_is_told_what_is_missing(authority: Authority) -> None:
    async def test() -> None:
        async with served(tls_of(authority, "journal/j1")) as (_, address):
            client = await linked(address)
            assert client.refusal == "it speaks TLS only: give --peer-ca, --peer-cert and --peer-key"
            await client.close()
            with pytest.raises(NotSecured):
                await Peer.connect("j1", f"{address[0]}:{address[1]}", "wallet-admin", "required")

    run(test)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What processes say of their own certificates."""
    whys: list[str] = []
    monkeypatch.setattr(peer_tls.log, "error", lambda event, **more: whys.append(more["why"]))
    return whys


def test_g14_a_process_whose_certificate_has_expired_says_so(authority: Authority, told: list[str]) -> None:
    """Copies close its connections without a word: its log said nothing, and `readyz` that no copy is reachable."""

    async def test() -> None:
        async with served(tls_of(authority, "journal/j1")) as (server, address):
            tls = tls_of(authority, "service/api-1")
            peer_tls.use(tls)
            authority.issue(checked("service", "api-1"), days=-0.001, renew=True)
            client = LinkClient("j1", address, ReceiptTracker(1))
            client.tls = "required"
            client.start()
            await until(lambda: server.refusals.totals.get("handshake", 0) > 1)
            (why,) = told
            assert "service-api-1.pem was good until" in why
            authority.issue(checked("service", "api-1"), renew=True)
            await until(lambda: client.connected)
            await client.close()

    run(test)


def test_g13_a_revoked_certificate_is_thrown_out_and_not_let_in_again(
    tmp_path: Path, told: list[str]
) -> None:
    """The copy reads the changed list by itself: no process is restarted."""

    async def test() -> None:
        authority = Authority.create(tmp_path / "ca", "test")
        async with served(tls_of(authority, "journal/j1")) as (server, address):
            peer_tls.use(tls_of(authority, "service/api"))
            stolen = await linked(address)
            assert stolen.connected
            authority.revoke(
                int(row.serial, 16) for row in authority.issued() if row.principal == "service/api"
            )
            await until(lambda: server.refusals.totals.get("revoked", 0) == 1)
            await until(lambda: not stolen.connected)
            # The client reconnects by itself, and is refused each time.
            await until(lambda: server.refusals.totals.get("handshake", 0) > 1)
            assert not server.open
            await stolen.close()
            assert [why.rpartition("/")[2] for why in told] == [
                "service-api.pem is revoked: wallet-admin ca issue --renew"
            ]

            peer_tls.use(tls_of(authority, "service/api"))
            renewed = await linked(address)
            assert renewed.connected
            await renewed.close()

    run(test)


@pytest.mark.parametrize("announced", ["", "optional", "required"])
def test_while_a_cluster_changes_over_a_copy_takes_both(authority: Authority, announced: str) -> None:
    async def test() -> None:
        async with served(tls_of(authority, "journal/j1", PeerMode.OPTIONAL)) as (server, address):
            if announced:
                peer_tls.use(tls_of(authority, "service/api-1", PeerMode.OPTIONAL))
            client = await linked(address, announced)
            assert client.connected
            (connection,) = server.connections
            assert (str(connection.principal) == "service/api-1") is bool(announced)
            await client.close()

    run(test)


def test_g13_what_is_announced_does_not_make_a_secured_process_speak_plainly(authority: Authority) -> None:
    """Otherwise anyone who can write into the directory could get the entries."""

    async def test() -> None:
        async with served(None) as (server, address):
            peer_tls.use(tls_of(authority, "service/api-1"))
            client = LinkClient("j1", address, ReceiptTracker(1))
            client.start()
            await until(lambda: client.refusal is not None)
            assert not client.connected
            assert all(not connection._spoke for connection in server.open)
            await client.close()

    run(test)


def test_renewed_certificates_count_for_new_connections(authority: Authority, tmp_path: Path) -> None:
    """Half of a renewal changes nothing. No process is restarted."""

    async def test() -> None:
        own = Authority.create(tmp_path / "own", "own")
        mine = tls_of(own, "journal/j1")
        async with served(mine) as (_, address):
            peer_tls.use(tls_of(own, "service/api-1"))
            first = await linked(address)
            assert first.connected
            cert, key = mine._files[1:]
            kept = key.read_bytes()
            key.write_bytes(own.issue(checked("admin", "x")).key.read_bytes())
            os.utime(key, ns=(1, 1))
            again = await linked(address)
            assert again.connected, "the key does not belong to the certificate yet"
            key.write_bytes(kept)
            before = cert.read_bytes()
            own.issue(checked("journal", "j1"), renew=True)
            assert cert.read_bytes() != before
            third = await linked(address)
            assert third.connected
            shown = third._connection._transport.get_extra_info("ssl_object").getpeercert(True)
            assert shown != first._connection._transport.get_extra_info("ssl_object").getpeercert(True)
            for client in (first, again, third):
                await client.close()

    run(test)


def test_g10_silent_connections_do_not_keep_others_out(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HANDSHAKES_MAX", 4)
    monkeypatch.setattr(door, "HANDSHAKE_S_MAX", 1.0)

    async def test() -> None:
        async with served(tls_of(authority, "journal/j1")) as (server, address):
            silent = [socket.create_connection(address) for _ in range(50)]
            peer_tls.use(tls_of(authority, "service/api-1"))
            client = await linked(address)
            assert client.connected
            await until(lambda: server.refusals.totals.get("handshakes", 0) >= 40)
            await until(lambda: server.refusals.totals.get("handshake", 0) >= 1)
            await client.close()
            for one in silent:
                one.close()

    run(test)


def test_g10_one_certificate_does_not_take_all_connections(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_server, "CONNECTIONS_PER_CALLER_MAX", 3)

    async def test() -> None:
        async with served(tls_of(authority, "journal/j1")) as (server, address):
            peer_tls.use(tls_of(authority, "service/greedy"))
            greedy = [LinkClient("j1", address, ReceiptTracker(1)) for _ in range(5)]
            for client in greedy:
                client.start()
            await until(lambda: server.refusals.totals.get("connections", 0) >= 2)
            assert len(server.open) == 3
            peer_tls.use(tls_of(authority, "service/other"))
            other = await linked(address)
            assert other.connected
            for client in (*greedy, other):
                await client.close()

    run(test)


def test_g10_who_says_nothing_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_server, "HELLO_S_MAX", 0.05)
    monkeypatch.setattr(link_server, "HALF_MESSAGE_S_MAX", 0.05)
    monkeypatch.setattr(link_server, "TIDY_S", 0.02)

    async def test() -> None:
        async with served(None) as (server, address):
            reader, writer = await asyncio.open_connection(*address)
            await until(lambda: server.refusals.totals.get("silence") == 1)
            other_reader, other = await asyncio.open_connection(*address)
            other.write(encode(ServiceHello("s1")) + encode(Receipts([]))[:6])
            await until(lambda: server.refusals.totals.get("half_message") == 1)
            assert (len(server.open), server.half_bytes) == (0, 0)
            for each in (writer, other):
                each.close()
            assert reader is not other_reader

    run(test)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"peer_ca": "ca"}, "are given together or not at all"),
        ({"peer_tls": "optional"}, "--peer-tls is given with --peer-ca"),
        ({"peer_ca": "ca", "peer_cert": "cert", "peer_key": "ca"}, "cannot use"),
        ({"peer_ca": "gone", "peer_cert": "cert", "peer_key": "key"}, "cannot read"),
        ({"peer_ca": "ca", "peer_cert": "cert", "peer_key": "key"}, "is for journal/j1; this command needs"),
    ],
)
def test_flags_that_cannot_be_are_one_line(
    authority: Authority, tmp_path: Path, flags: dict[str, str], said: str
) -> None:
    pair = authority.issue(checked("journal", "j1"), renew=True)
    authority.pair.cert.chmod(0o600)
    known = {"ca": authority.pair.cert, "cert": pair.cert, "key": pair.key, "gone": tmp_path / "gone"}
    with pytest.raises(ConfigError, match=said):
        peer_tls.use_flags({name: known.get(value, value) for name, value in flags.items()}, PeerRole.SERVICE)
    assert peer_tls.peer_tls() is None


def test_every_message_has_a_row() -> None:
    """The table has every message that a copy understands, with the roles that may send it, and no other."""
    assert set(MAY_SAY) == set(ToCopy.__args__)
    assert all(MAY_SAY.values())
    assert PeerRole.FOLLOWER in MAY_SAY[StateAsk]
    assert MAY_SAY[PeerHello]


def test_g13_a_follower_reads_with_its_certificate(authority: Authority, tmp_path: Path) -> None:
    async def test() -> None:
        writer = JournalWriter(tmp_path, "j1")
        append(writer, 1, 20)
        writer.sync()
        server = LinkServer(
            JournalCopy(writer), lambda shard, reason: None, tls=tls_of(authority, "journal/j1")
        )
        feed = FeedServer(writer)
        server.on_follower = lambda _: FeedSession(feed)
        host, port = await server.start("127.0.0.1", 0)

        async def copies() -> dict[str, CopyAddress]:
            return {"j1": CopyAddress(f"{host}:{port}", "required")}

        try:
            with pytest.raises(Outage):
                await FeedClient(copies, "test").positions()
            peer_tls.use(tls_of(authority, "follower/f1"))
            client = FeedClient(copies, "test")
            assert await client.positions() == {1: 20}
            async with aclosing(client.entries(1, 0)) as batches:
                assert [entry.seq for entry in await anext(batches)] == list(range(1, 21))
        finally:
            await server.close()
            writer.close()

    run(test)
