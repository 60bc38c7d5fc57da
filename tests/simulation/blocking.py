"""Blocking code in virtual time: it runs in a thread of its own, and the world waits meanwhile.

`Blocking.wait` hands a coroutine to the event loop of the simulated process, and the thread sleeps until it is done. At
any moment only one thread runs, the world's or this one, so a seed is still one run.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, Final

import hiredis
import redis.exceptions
from simulation.redis_node import CommandError, RedisNode
from simulation.world import Killed, ProcessLoop, World

from wallet_engine.admin.moving.wire import Setback, Wire

#: The default timeout of a simulated socket.
_SOCKET_S_MAX: Final = 2.0


class Blocking:
    """Runs `work` in a thread, from now on. `done` gets its error or None, unless the process was killed before."""

    def __init__(
        self, loop: ProcessLoop, work: Callable[[], object], done: Callable[[Exception | None], object]
    ) -> None:
        self.loop = loop
        self._work = work
        self._done = done
        self._thread = threading.Thread(target=self._run, daemon=True)
        _of_thread[self._thread] = self
        self._to_thread, self._to_world = threading.Semaphore(0), threading.Semaphore(0)
        self._wanted: Coroutine[Any, Any, Any] | None = None
        self._came_out: asyncio.Task[Any] | None = None
        self._error: Exception | None = None
        self.over = False
        self._thread.start()
        self._let_it_run()

    def __repr__(self) -> str:
        return f"<Blocking {self.loop.name} over={self.over}>"

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run the coroutine and return its result; called in the thread. Raises `Killed` once the process is dead."""
        if self.loop.dead:
            coroutine.close()
            raise Killed
        self._wanted = coroutine
        self._to_world.release()
        self._to_thread.acquire()
        if self.loop.dead or self._came_out is None:
            raise Killed
        task, self._came_out = self._came_out, None
        return task.result()

    def end(self) -> None:
        """The process was killed: its code stops, except for what runs while `Killed` leaves it."""
        if threading.current_thread() is not self._thread and not self.over:
            self._to_thread.release()
            self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except Killed:
            pass
        except Exception as error:
            self._error = error
        finally:
            self.over = True
            _of_thread.pop(self._thread, None)
            self._to_world.release()

    def _let_it_run(self) -> None:
        """The world waits until the thread calls `wait`, or has ended."""
        self._to_world.acquire()
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            self.loop.create_task(wanted).add_done_callback(self._go_on)
        elif self.over and not self.loop.dead:
            self._thread.join()
            self._done(self._error)

    def _go_on(self, task: asyncio.Task[Any]) -> None:
        self._came_out = task
        self._to_thread.release()
        self._let_it_run()


_of_thread: dict[threading.Thread, Blocking] = {}


def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """`Blocking.wait` of the calling thread."""
    return _inside().wait(coroutine)


def _here() -> Blocking | None:
    return _of_thread.get(threading.current_thread())


def _inside() -> Blocking:
    found = _here()
    assert found is not None, "only code that runs in a thread of its own may block"
    return found


def clock_of(world: World) -> SimpleNamespace:
    """A stand-in for the module `time`."""

    def passed_s() -> float:
        return world.now_us / 1e6

    return SimpleNamespace(
        monotonic=passed_s,
        perf_counter=passed_s,
        time_ns=world.clock_ns,
        sleep=lambda seconds: wait(asyncio.sleep(seconds)),
    )


class _Received(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = False
        self.news = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.news.set()


class SimSocket:
    """The parts of a TCP connection that blocking code needs, over the simulated network."""

    def __init__(self, target: tuple[str, int], timeout: float = _SOCKET_S_MAX) -> None:
        """Raises OSError."""
        self._blocking = _inside()
        self._timeout_s = timeout
        self._received = _Received()
        self._transport = self._blocking.wait(self._connect(*target))

    def __repr__(self) -> str:
        return f"<SimSocket lost={self._received.lost}>"

    def __enter__(self) -> "SimSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _connect(self, host: str, port: int) -> Any:
        return (await self._blocking.loop.create_connection(lambda: self._received, host, port))[0]

    def settimeout(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def sendall(self, data: bytes) -> None:
        if self._received.lost:
            raise ConnectionResetError("the connection is lost")
        self._transport.write(data)

    def recv(self, _size: int) -> bytes:
        if not self._received.data and not self._received.lost:
            self._blocking.wait(self._more())
        data = bytes(self._received.data)
        self._received.data.clear()
        return data

    async def _more(self) -> None:
        received = self._received
        received.news.clear()
        over = self._blocking.loop.call_later(self._timeout_s, received.news.set)
        await received.news.wait()
        over.cancel()
        if not received.data and not received.lost:
            raise TimeoutError("no reply")

    def close(self) -> None:
        if not self._blocking.loop.dead:
            self._transport.close()


class Clients:
    """A stand-in for `topology.connect`: redis-py's client, as far as the engine uses it for administration.

    Blocking code talks over the network. A thread of a process's event loop is one call here, and asks the node itself.
    """

    def __init__(self, world: World, nodes: list[RedisNode], reached: Callable[[RedisNode], bool]) -> None:
        self._world = world
        self._nodes = {node.address: node for node in nodes}
        self._reached = reached

    def __repr__(self) -> str:
        return f"<Clients {sorted(self._nodes)}>"

    def connect(self, address: str, **_: Any) -> "_Client":
        if _here() is not None:
            return _OverNetwork(address)
        return _AtOnce(self, address)

    def reach(self, address: str) -> RedisNode:
        """The node at the address, if it answers the running process. Raises what redis-py raises."""
        node = self._nodes[address]
        stalled = node.stalled_until_us > self._world.now_us
        if not node.alive or stalled or not self._reached(node):
            raise redis.exceptions.TimeoutError(f"{address} does not answer")
        return node


class _Client:
    def ask(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Replies, error replies among them. Raises what redis-py raises."""
        raise NotImplementedError

    def execute_command(self, *words: Any) -> Any:
        return _checked(self.ask([words]))[0]

    def pipeline(self, *, transaction: bool) -> "_Pipeline":
        assert not transaction
        return _Pipeline(self)

    def close(self) -> None: ...


class _Pipeline:
    def __init__(self, client: _Client) -> None:
        self._client = client
        self._queued: list[tuple[Any, ...]] = []

    def __enter__(self) -> "_Pipeline":
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute_command(self, *words: Any) -> None:
        self._queued.append(words)

    def execute(self) -> list[Any]:
        return _checked(self._client.ask(self._queued))


class _AtOnce(_Client):
    def __init__(self, clients: Clients, address: str) -> None:
        self._clients = clients
        self._address = address

    def ask(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        node = self._clients.reach(self._address)
        replies: list[Any] = []
        for words in commands:
            try:
                replies.append(node.execute([str(word).encode() for word in words]))
            except CommandError as error:
                replies.append(hiredis.ReplyError(str(error)))
        return replies


class _OverNetwork(_Client):
    def __init__(self, address: str) -> None:
        self._address = address
        self._wire: Wire | None = None

    def ask(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        try:
            self._wire = self._wire or Wire(self._address)
            return self._wire.batch(commands)
        except Setback as error:
            raise redis.exceptions.ConnectionError(str(error)) from None

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()


def _checked(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise redis.exceptions.ResponseError(str(reply))
    return _decoded(replies)


def _decoded(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode()
    return [_decoded(each) for each in reply] if isinstance(reply, list) else reply
