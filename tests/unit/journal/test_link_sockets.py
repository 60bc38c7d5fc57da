"""Server and client over real sockets: broadcasts, questions, reconnects, and peers that misbehave."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import uvloop
from unit.journal.samples import append, entry, nonce

from wallet_engine.domain.errors import Corruption, Outage
from wallet_engine.journal import (
    JournalWriter,
    LinkClient,
    LinkServer,
    ReceiptTracker,
    link_client,
    link_server,
    link_terms,
)
from wallet_engine.journal.chains import Position
from wallet_engine.journal.link_wire import (
    MESSAGE_BYTES_MAX,
    Ask,
    Asks,
    CopyHello,
    MessageBuffer,
    MessageTooLong,
    NewEntries,
    NewEntry,
    Receipts,
    ServiceHello,
    decode_from_journal,
    encode,
)


class Memory:
    """Answers in place of a writer."""

    def __init__(self, journal_id: str = "j1") -> None:
        self.journal_id = journal_id
        self.durable: dict[tuple[int, int], str] = {}
        self.stopped = False
        #: Partition -> the last entry that only the segments know.
        self.forgotten: dict[int, int] = {}

    def write(self, *entries: tuple[int, str, int]) -> list[tuple[int, str, int]]:
        for partition, text, seq in entries:
            self.durable[partition, seq] = text
        return list(entries)

    def remembers(self, ask: Ask) -> bool | None:
        if self.stopped:
            raise Outage("journal_unavailable", "stopped")
        partition, seq, text = ask
        if seq <= self.forgotten.get(partition, 0):
            return None
        return self.durable.get((partition, seq)) == text

    async def receipted(self, asks: Sequence[Ask]) -> list[bool]:
        await asyncio.sleep(0)
        return [self.durable.get((partition, seq)) == text for partition, seq, text in asks]

    def positions(self) -> dict[int, Position]:
        return {p: Position(seq, text, 1, 0) for (p, seq), text in sorted(self.durable.items())}


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def served(
    memory: Memory,
    recoveries: list[tuple[str, str]] | None = None,
    port: int = 0,
    told: Callable[[Sequence[int]], None] = lambda partitions: None,
    brought: Callable[[Sequence[NewEntry]], None] = lambda entries: None,
) -> AsyncIterator[tuple[LinkServer, tuple[str, int]]]:
    noted = [] if recoveries is None else recoveries
    server = LinkServer(memory, lambda shard, reason: noted.append((shard, reason)), told, brought)
    address = await server.start("127.0.0.1", port)
    try:
        yield server, address
    finally:
        await server.close()


@asynccontextmanager
async def connected(
    memory: Memory, address: tuple[str, int], tracker: ReceiptTracker
) -> AsyncIterator[LinkClient]:
    client = LinkClient(memory.journal_id, address, tracker, service_id="s1")
    client.start()
    try:
        await until(lambda: client.connected)
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize("forgotten", [0, 6])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_broadcast_ask_and_recovery(loop: str, forgotten: int) -> None:
    async def test() -> None:
        memory, tracker, done = Memory(), ReceiptTracker(1), []
        memory.forgotten[1] = forgotten  # an entry that is asked for is looked up
        recoveries: list[tuple[str, str]] = []
        to_fetch: list[int] = []
        memory.write((1, "old", 6), (1, "latest", 7))
        async with (
            served(memory, recoveries, told=to_fetch.extend) as (server, address),
            connected(memory, address, tracker) as client,
        ):
            await until(lambda: "s1" in repr(server))
            assert repr(client) == f"<LinkClient j1 127.0.0.1:{address[1]} connected>"
            assert repr(server) == "<LinkServer j1 services=['s1'] dropped=0>"
            tracker.expect(1, 7, "latest", lambda: done.append("latest"))
            assert done == ["latest"]
            tracker.expect(2, None, "new", lambda: done.append("new"))
            tracker.ask_needed(1, 6, "old", lambda: done.append("old"))
            tracker.ask_needed(1, 6, "fork", lambda: done.append("fork"))
            await until(lambda: "old" in done)
            await until(lambda: to_fetch == [1])  # it may be in the stream
            server.publish(memory.write((2, "other", 1), (1, "eight", 8), (2, "new", 2)))
            await until(lambda: "new" in done)
            assert tracker.request_recovery("shard-2", "fork") == 1
            await until(lambda: bool(recoveries))
            assert (recoveries, tracker.pending) == ([("shard-2", "fork")], 1)
        assert tracker.copies == 0

    if loop == "uvloop":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(test(), 20))
    else:
        run(test)


def test_g5_receipts_missed_while_disconnected_are_asked_for() -> None:
    """G5, G9: entries that became durable while the connection was down are answered after the reconnect."""

    async def test() -> None:
        memory, tracker, done = Memory(), ReceiptTracker(1), []
        async with served(memory) as (server, address):
            client = LinkClient("j1", address, tracker)
            client.start()
            await until(lambda: client.connected)
            tracker.expect(1, 1, "a", lambda: done.append("a"))
            tracker.expect(1, None, "b", lambda: done.append("b"))
        await until(lambda: not client.connected)
        memory.write((1, "a", 1), (1, "b", 2), (1, "c", 3))
        assert tracker.copies == 0
        async with served(memory, port=address[1]) as (server, _):
            await until(lambda: client.connected)
            tracker.placed("b", 2)
            await until(lambda: len(done) == 2)
            assert (sorted(done), tracker.pending) == (["a", "b"], 0)
            server.publish(memory.write((1, "d", 4)))
            await client.close()

    run(test)


def test_g5_quorum_of_two_copies_with_real_journals(tmp_path: Path) -> None:
    """G5: two journals on disk. The answer is sent after the second fsync."""

    async def test() -> None:
        tracker, done = ReceiptTracker(2), []
        writers = [JournalWriter(tmp_path / name, name) for name in ("j1", "j2")]
        servers = [LinkServer(writer, lambda shard, reason: None) for writer in writers]
        clients = [
            LinkClient(writer.journal_id, await server.start("127.0.0.1", 0), tracker)
            for writer, server in zip(writers, servers, strict=True)
        ]
        for client in clients:
            client.start()
        await until(lambda: tracker.copies == 2)
        for seq in range(1, 21):
            tracker.expect(1, None, nonce(1, seq), lambda seq=seq: done.append(seq))
        for number, (writer, server) in enumerate(zip(writers, servers, strict=True)):
            append(writer, 1, 20)
            await asyncio.to_thread(writer.sync)
            server.publish([(1, nonce(1, seq), seq) for seq in range(1, 21)])
            await asyncio.sleep(0.05)
            assert done == (list(range(1, 21)) if number else [])
        for part in (*clients, *servers):
            await part.close()
        for writer in writers:
            writer.close()

    run(test)


def test_client_refuses_a_copy_with_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is counted under two names would be a quorum alone."""

    async def test() -> None:
        tracker = ReceiptTracker(1)
        async with served(Memory("j2")) as (_, address):
            client = LinkClient("j1", address, tracker)
            client.start()
            await until(lambda: client.refusal is not None)
            assert (client.refusal, tracker.copies) == ("is journal j2", 0)
            await client.close()

    run(test)


def test_client_goes_to_the_new_address() -> None:
    async def test() -> None:
        memory, tracker = Memory(), ReceiptTracker(1)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            client = LinkClient("j1", unused.getsockname(), tracker)
        client.start()
        await asyncio.sleep(0.05)
        assert repr(client).endswith("connecting>")
        async with served(memory) as (_, address):
            client.address = address
            await until(lambda: client.connected)
            await client.close()

    run(test)


def test_g9_client_goes_to_the_new_address_after_one_that_is_no_name() -> None:
    """Such as `--advertise host..svc`: its encoding fails before any look-up, and not with an `OSError`."""

    async def test() -> None:
        memory, tracker = Memory(), ReceiptTracker(1)
        client = LinkClient("j1", ("host..svc", 1), tracker)
        client.start()
        await asyncio.sleep(0.05)
        async with served(memory) as (_, address):
            client.address = address
            client.start()
            await until(lambda: client.connected)
            await client.close()

    run(test)


def test_entries_are_brought_in_their_order_in_messages_of_a_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_client, "ENTRIES_BYTES_MAX", 1000)

    async def test() -> None:
        memory, tracker = Memory(), ReceiptTracker(1)
        messages: list[Sequence[NewEntry]] = []
        async with (
            served(memory, brought=messages.append) as (_, address),
            connected(memory, address, tracker),
        ):
            entries = [(seq % 3, b"header %d" % seq, b"c" * 90) for seq in range(100)]
            tracker.written(entries)
            await until(lambda: sum(map(len, messages)) == 100)
            assert [entry for message in messages for entry in message] == entries
            assert len(messages) == 10

    run(test)


def test_g10_a_copy_that_does_not_read_is_only_told_of_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """G10: the entries that wait for a copy are bounded. It fetches the others from the stream."""
    monkeypatch.setattr(link_client, "UNREAD_ENTRIES_BYTES_MAX", 100_000)

    async def test() -> None:
        memory, tracker = Memory(), ReceiptTracker(1)
        brought: list[NewEntry] = []
        told: list[int] = []
        async with (
            served(memory, told=told.extend, brought=brought.extend) as (server, address),
            connected(memory, address, tracker),
        ):
            await until(lambda: "s1" in repr(server))
            (service,) = server.connections
            service._transport.pause_reading()
            number = 150
            for partition in range(number):
                tracker.written([(partition, b"header", b"c" * 100_000)])
            service._transport.resume_reading()
            await until(lambda: len(brought) + len(told) == number)
            tracker.written([(number, b"header", b"c")])  # the copy reads again, and gets entries again
            await until(lambda: len(brought) + len(told) > number)
            assert brought[-1][0] == number
            assert sorted([partition for partition, _, _ in brought] + told) == list(range(number + 1))
            assert len(told) > 50, "most were not given to it"

    run(test)


def test_what_cannot_be_an_entry_ends_the_connection() -> None:
    async def test() -> None:
        def refuse(entries: Sequence[NewEntry]) -> None:
            raise Corruption("not an entry")

        async with served(Memory(), brought=refuse) as (server, address):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(encode(NewEntries([(1, b"oops", b"")])))
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1 << 20)
            assert not server.connections
            writer.close()

    run(test)


def test_silent_peer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_client, "HELLO_S_MAX", 0.05)

    async def test() -> None:
        connections = 0

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        client = LinkClient("j1", server.sockets[0].getsockname(), ReceiptTracker(1))
        client.start()
        await until(lambda: connections >= 2)
        await client.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)

    run(test)


def test_g10_slow_service_is_dropped_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """G10: the unread bytes of a service are bounded. It can reconnect and ask."""
    monkeypatch.setattr(link_server, "UNREAD_BYTES_MAX", 200_000)

    async def test() -> None:
        memory, tracker = Memory(), ReceiptTracker(1)
        async with served(memory) as (server, address), connected(memory, address, tracker):
            slow = socket.socket()
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(address)
            await until(lambda: len(server.connections) == 2)
            seq = 0
            while not server.dropped:
                server.publish([(1, f"{seq + i:016x}", seq + i) for i in range(1, 1001)])
                seq += 1000
                await asyncio.sleep(0.001)
                assert seq < 2_000_000
            assert len(server.connections) == 1
            done: list[int] = []
            tracker.expect(1, seq, f"{seq:016x}", lambda: done.append(seq))
            await until(lambda: done == [seq])
            slow.close()

    run(test)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        encode(Receipts([])),
        (MESSAGE_BYTES_MAX + 1).to_bytes(4, "little"),
        b"\x01\0\0\0\xc1",
    ],
)
def test_stranger_is_disconnected(sent: bytes) -> None:
    async def test() -> None:
        async with served(Memory()) as (server, address):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(sent)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1 << 20)
            assert not server.connections
            writer.close()

    run(test)


def test_stopped_writer_ends_the_connection() -> None:
    async def test() -> None:
        memory, tracker = Memory(), ReceiptTracker(1)
        async with served(memory) as (_, address), connected(memory, address, tracker) as client:
            memory.stopped = True
            tracker.ask_needed(1, 1, "n", lambda: None)
            await until(lambda: not client.connected)

    run(test)


def test_too_many_connections_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_server, "CONNECTIONS_MAX", 1)

    async def test() -> None:
        memory = Memory()
        async with served(memory) as (server, address), connected(memory, address, ReceiptTracker(1)):
            reader, writer = await asyncio.open_connection(*address)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()
            assert len(server.connections) == 1

    run(test)


def test_large_publish_is_split_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_server, "RECEIPTS_PER_MESSAGE_MAX", 7)
    groups = link_terms.group_receipts([(1, "a", 1), (2, "x", 9), (1, "b", 2)])
    assert groups == [(1, ["a", "b"], 2), (2, ["x"], 9)]

    async def test() -> None:
        memory, tracker, done = Memory(), ReceiptTracker(1), []
        async with served(memory) as (server, address), connected(memory, address, tracker):
            for seq in range(100):
                tracker.expect(seq % 3, seq, f"n{seq}", lambda: done.append(1))
            server.publish([(seq % 3, f"n{seq}", seq) for seq in range(100)])
            await until(lambda: len(done) == 100)

    run(test)


def test_messages_are_cut_right_wherever_the_stream_is_cut() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    messages = [
        CopyHello("j1", [(1, 5, "n")]),
        Receipts([(1, [f"{i:016x}" for i in range(rng.randrange(400))], 7)]),
        Receipts([(1, [f"{i:016x}" for i in range(rng.randrange(3000))], 7)]),
        Receipts([]),
        *(Receipts([(p, ["a"], p)]) for p in range(30)),
    ]
    stream = b"".join(encode(message) for message in messages)
    for _ in range(50):
        buffer, found, position = MessageBuffer(), [], 0
        while position < len(stream):
            size = rng.choice((1, 3, 50, 5000, 20_000))
            found += [decode_from_journal(body) for body in buffer.feed(stream[position : position + size])]
            position += size
            whole = sum(len(encode(message)) for message in found)
            assert buffer.waiting_bytes == min(position, len(stream)) - whole
        assert found == messages
    with pytest.raises(MessageTooLong):
        list(MessageBuffer().feed(b"\xff\xff\xff\xff"))
    with pytest.raises(msgspec.ValidationError):
        decode_from_journal(encode(ServiceHello("s"))[4:])
    assert encode(Asks([(1, 2, "n")]))[4:] == b"\x92\xa3ask\x91\x93\x01\x02\xa1n"


def test_entry_sample_is_what_the_tracker_matches() -> None:
    """The nonce of a receipt is exactly the nonce in the entry's first line."""
    assert entry(1, 3)[1].nonce == nonce(1, 3)
