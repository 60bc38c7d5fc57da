"""The errors for a copy that does not answer another one: its name, the question, and the time-out."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from wallet_engine.domain.errors import text_of
from wallet_engine.journal import peers
from wallet_engine.journal.copies_wire import Standings, StateAsk
from wallet_engine.journal.link_wire import CopyHello, encode
from wallet_engine.journal.peers import Peer


async def asked_of(says: bytes, ask: Callable[[str], Awaitable[object]]) -> str:
    """The error of `ask` with a server that sends these bytes and then nothing."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        with pytest.raises(OSError) as raised:  # noqa: PT011  # its text is what this is about
            await ask(f"{host}:{port}")
        return text_of(raised.value)
    finally:
        server.close()
        await asyncio.wait_for(gone.wait(), 20)
        await server.wait_closed()


def test_a_copy_that_does_not_say_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "CONNECT_S_MAX", 0.05)
    said = asyncio.run(asked_of(b"", lambda address: Peer.connect("j2", address, "j1")))
    assert said.startswith("journal copy j2 at 127.0.0.1:")
    assert said.endswith("has not said who it is within 0.05 s")


def test_a_copy_that_does_not_answer_a_question() -> None:
    async def ask(address: str) -> None:
        peer = await Peer.connect("j2", address, "j1")
        await peer.ask(StateAsk([]), Standings, 0.05)  # the time-out ends the connection

    said = asyncio.run(asked_of(encode(CopyHello("j2", [])), ask))
    assert said == "journal copy j2 has not answered StateAsk within 0.05 s"


def test_what_an_error_says_is_never_empty() -> None:
    assert text_of(TimeoutError()) == "TimeoutError"
    assert text_of(OSError("one\n  two")) == "one two"
