"""Connections in memory: bytes arrive in order, later, or not at all; either end may die at any time."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
from simulation.world import Handle, ProcessLoop, World

#: How long an attempt to connect to an unreachable address takes.
UNREACHABLE_S: Final = 0.7


class Endpoint(Protocol):
    """One end of a wire, as the other end sees it."""

    closed: bool

    def arrived(self, data: bytes) -> None: ...

    def lost(self) -> None: ...


class Wire:
    """Two ends. What one sends arrives at the other in order; `reset` loses everything on its way."""

    def __init__(self, world: World, names: tuple[str, str] = ("", "")) -> None:
        """`names` are those of the two ends: a process, or the address of a Redis node."""
        self.world = world
        self.names = names
        self.ends: tuple[Any, Any] = (None, None)
        self.broken = False
        #: What waits until the network is whole again; None while it is whole.
        self.held: list[tuple[Any, ...]] | None = None
        self._arrival_us = [0, 0]

    def send(self, end: Any, data: bytes) -> None:
        if self.broken or end.closed:
            return
        self._pass_on(end, self._arrive, data)

    def hang_up(self, end: Any) -> None:
        """This end is closed; the other end learns it after it got what was sent before."""
        self._pass_on(end, self._end)

    def cut(self) -> None:
        """From now on nothing arrives, and neither end is told."""
        self.held = []

    def mend(self) -> None:
        """What was sent meanwhile arrives, in order, as TCP has retransmitted it."""
        held, self.held = self.held or [], None
        for what in held:
            self._schedule(*what)

    def _pass_on(self, *what: Any) -> None:
        if self.held is None:
            self._schedule(*what)
        else:
            self.held.append(what)

    def reset(self) -> None:
        """The connection breaks: both ends learn it, and all data on its way is lost."""
        if self.broken:
            return
        self.broken = True
        for end in self.ends:
            self._lose(end)

    def _schedule(self, end: Any, what: Callable[..., None], *args: Any) -> None:
        world = self.world
        to = 1 if self.ends[0] is end else 0
        when_us = max(self._arrival_us[to] + 1, world.now_us + world.latency_us())
        self._arrival_us[to] = when_us
        receiver = self.ends[to]
        world.at(when_us, receiver.loop, Handle(what, (receiver, *args), None))

    def _arrive(self, receiver: Any, data: bytes) -> None:
        if not self.broken and not receiver.closed:
            receiver.arrived(data)

    def _end(self, receiver: Any) -> None:
        if not self.broken:
            self.broken = True
            self._lose(receiver)

    def _lose(self, end: Any) -> None:
        if not end.closed:
            end.closed = True
            delay_us = int(self.world.rng.random() * 2_000)
            self.world.at(self.world.now_us + delay_us, end.loop, Handle(end.lost, (), None))


#: In the first bytes of each message with receipts (`journal/link_wire.py`).
_RECEIPTS: Final = msgspec.msgpack.encode("receipts")


class ProcessEnd(asyncio.Transport):
    """The transport that a process's protocol is given."""

    def __init__(self, wire: Wire, loop: ProcessLoop, protocol: Any) -> None:
        super().__init__()
        self.wire = wire
        self.loop = loop
        self.protocol = protocol
        self.closed = False
        #: Probability that a copy says a receipt twice. Answers to questions are said once.
        self.repeat = 0.0
        loop.transports[self] = None

    def arrived(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def lost(self) -> None:
        self.loop.transports.pop(self, None)
        self.protocol.connection_lost(None)

    def owner_died(self) -> None:
        self.loop.transports.pop(self, None)
        if not self.closed:
            self.closed = True
            self.wire.hang_up(self)

    # asyncio.Transport -----------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        self.wire.send(self, bytes(data))
        if self.repeat and self.wire.world.rng.random() < self.repeat and _RECEIPTS in bytes(data[:16]):
            self.wire.send(self, bytes(data))

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self.wire.hang_up(self)
            self.loop.call_soon(self.lost)

    close = abort

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _SOCKET if name == "socket" else default


class _Socket:
    def fileno(self) -> int:
        return 100  # as far from any limit of open files as from being closed

    def setsockopt(self, *_: Any) -> None:
        pass


_SOCKET = _Socket()


class Network:
    """Finds the listener at an address."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wires: list[Wire] = []
        #: address -> accepts a wire as an endpoint, or None to refuse (Redis nodes).
        self.hosts: dict[str, Callable[[Wire], Any]] = {}
        #: Probability that a receipt message arrives twice.
        self.repeat_receipts = 0.0
        #: Names of processes and nodes that reach only each other; empty while the network is whole.
        self.island: frozenset[str] = frozenset()
        #: Names of processes that reach both sides.
        self.bridge: frozenset[str] = frozenset()

    def reaches(self, one: str, other: str) -> bool:
        return (one in self.island) == (other in self.island) or bool(self.bridge & {one, other})

    def split(self, island: frozenset[str], bridge: frozenset[str] = frozenset()) -> None:
        """Cut the island off from all but the bridge. Connections stay until an end gives them up."""
        self.island, self.bridge = island, bridge
        for wire in self.open_wires():
            if not self.reaches(*wire.names):
                wire.cut()

    def join(self) -> None:
        """The network is whole again."""
        self.island = frozenset()
        for wire in self.open_wires():
            wire.mend()

    def open_wires(self) -> list[Wire]:
        self.wires = [wire for wire in self.wires if not wire.broken]
        return self.wires

    async def connect(self, loop: ProcessLoop, factory: Callable[[], Any], address: str) -> tuple[Any, Any]:
        world = self.world
        await asyncio.sleep(world.latency_us() / 1e6)
        host = self.hosts.get(address)
        peer: Any = None
        listener = None
        if host is None:
            for other in world.loops:
                if not other.dead and address in other.listeners:
                    listener = other
        wire = Wire(world, (loop.process, listener.process if listener else address))
        if not self.reaches(*wire.names):
            await asyncio.sleep(UNREACHABLE_S)
            raise TimeoutError(f"{address} is not reached")
        if host is not None:
            peer = host(wire)
        if peer is None and listener is None:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        protocol = factory()
        mine = ProcessEnd(wire, loop, protocol)
        if listener is not None:
            peer = ProcessEnd(wire, listener, listener.listeners[address]())
            peer.repeat = self.repeat_receipts
            listener.call_soon(peer.protocol.connection_made, peer)
        wire.ends = (mine, peer)
        self.wires.append(wire)
        protocol.connection_made(mine)
        return mine, protocol
