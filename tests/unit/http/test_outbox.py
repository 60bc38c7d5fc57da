"""Answers are made and sent together, in order, after the work that the receipts have caused."""

import asyncio

from wallet_engine.http.outbox import JoiningTransport, Outbox


class Transport:
    """A transport that records what is written to the socket."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.closed = False

    def write(self, data: bytes) -> None:
        self.log.append(data.decode())

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True
        self.log.append("closed")


async def emptied() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def run(scene) -> None:
    async def main() -> None:
        log: list[str] = []
        await asyncio.wait_for(scene(log, Outbox()), 10)

    asyncio.run(main())


def test_callers_are_answered_behind_what_was_called_for_after_them() -> None:
    async def scene(log: list[str], outbox: Outbox) -> None:
        outbox.add(lambda: log.append("answer"))
        asyncio.get_running_loop().call_soon(log.append, "wave")
        outbox.add(lambda: log.append("another"))
        assert log == []
        await emptied()
        assert log == ["wave", "answer", "another"]

    run(scene)


def test_all_answers_are_made_before_the_first_is_sent_and_a_connection_sends_once() -> None:
    async def scene(log: list[str], outbox: Outbox) -> None:
        a, b = (JoiningTransport(Transport(log), outbox) for _ in range(2))

        def answer(transport: JoiningTransport, name: str) -> None:
            log.append(f"made {name}")
            transport.write(f"head {name}, ".encode())
            transport.write(f"body {name}".encode())

        outbox.add(lambda: answer(a, "a"))
        outbox.add(lambda: answer(b, "b"))
        await emptied()
        assert log == ["made a", "made b", "head a, body a", "head b, body b"]
        a.write(b"next")
        await emptied()
        assert log[4:] == ["next"]

    run(scene)


def test_an_answer_that_fails_keeps_none_of_the_others() -> None:
    async def scene(log: list[str], outbox: Outbox) -> None:
        def fail() -> None:
            raise RuntimeError("a bug")

        outbox.add(fail)
        outbox.add(lambda: log.append("answer"))
        await emptied()
        assert log == ["answer"]
        outbox.add(lambda: log.append("later"))
        await emptied()
        assert log == ["answer", "later"]

    run(scene)


def test_closing_sends_first_what_was_written() -> None:
    async def scene(log: list[str], outbox: Outbox) -> None:
        transport = JoiningTransport(Transport(log), outbox)
        transport.write(b"last")
        transport.close()
        assert log == ["last", "closed"]
        await emptied()
        assert log == ["last", "closed"]

    run(scene)


def test_nothing_is_sent_to_a_connection_that_is_gone() -> None:
    async def scene(log: list[str], outbox: Outbox) -> None:
        socket = Transport(log)
        transport = JoiningTransport(socket, outbox)
        transport.write(b"unread")
        socket.closed = True
        await emptied()
        assert log == []

    run(scene)
