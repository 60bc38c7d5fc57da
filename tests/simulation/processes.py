"""The two kinds of process in a cluster, composed of the engine's real parts on a simulated loop."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Protocol

from simulation.directory_tree import Keeper, SimTree
from simulation.network import Network
from simulation.substitutes import HORIZONS, NoMetrics
from simulation.world import Killed, ProcessLoop, World

from wallet_engine.app.copy_process import CopyProcess
from wallet_engine.app.listening import Listening
from wallet_engine.app.troubles import Troubles
from wallet_engine.domain.entry import EntryHeader
from wallet_engine.domain.errors import WalletError
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import Reader
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.writer import Group, JournalWriter
from wallet_engine.routing.directory import Directory
from wallet_engine.saga.expiry import Expirer
from wallet_engine.saga.group_sweeper import GroupSweeper
from wallet_engine.saga.sweeper import Sweeper
from wallet_engine.service.wallet import ClusterWallet

#: The last tells whether it came the ordinary way, from a stream.
Appended = tuple[int, bytes, EntryHeader, bool]


class DurableListener(Protocol):
    """Is told which entries have reached a disk."""

    def durable(self, journal_id: str, partition: int, payload: bytes, header: EntryHeader) -> None: ...

    def on_disk(self, journal_id: str, partition: int, seq: int) -> None: ...


class Process:
    """A process that can be killed and started again under the same name."""

    def __init__(self, world: World, keeper: Keeper, network: Network, name: str) -> None:
        self.world = world
        self.keeper = keeper
        self.network = network
        self.name = name
        self.loop = ProcessLoop(world, name)
        self.loop.dead = True
        self.starts = 0
        #: The machine's clock: outlives the process.
        self.clock_ahead_us = world.rng.randint(-40_000, 40_000)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.loop!r} starts={self.starts}>"

    @property
    def alive(self) -> bool:
        return not self.loop.dead

    def start(self) -> None:
        self.starts += 1
        self.loop = loop = ProcessLoop(self.world, f"{self.name}#{self.starts}")
        loop.connector = self.network.connect
        loop.clock_ahead_us = self.clock_ahead_us
        loop.call_soon(lambda: loop.create_task(self._run()))

    def set_clock(self, ahead_us: int) -> None:
        """Set its machine's clock `ahead_us` ahead of the right time."""
        self.clock_ahead_us = self.loop.clock_ahead_us = ahead_us

    def kill(self) -> None:
        if self.alive:
            self.world.note(f"killed: {self.name}")
            self.world.kill(self.loop)
            self.keeper.process_died(self.loop)

    def start_later(self, delay_s: float) -> None:
        def again() -> None:
            if not self.alive:
                self.start()

        self.world.after(int(delay_s * 1e6), again)

    async def _run(self) -> None:
        loop = self.loop
        try:
            await self.main(Directory(SimTree(self.keeper, loop)))
        except WalletError as error:
            self.world.note(f"{self.name} ends: {error}")
            loop.call_soon(self._end)

    def _end(self) -> None:
        self.kill()
        self.start_later(0.3)
        raise Killed

    async def main(self, directory: Directory) -> None:
        raise NotImplementedError


class ServiceProcess(Process):
    """`wallet-engine serve` without HTTP. `requests` are the calls in progress; `holds`: whether holds may expire."""

    def __init__(self, world: World, keeper: Keeper, network: Network, name: str, *, holds: bool) -> None:
        super().__init__(world, keeper, network, name)
        self._holds = holds
        self.engine: Engine | None = None
        self.wallet: ClusterWallet | None = None
        self.requests: dict[object, Callable[[], None]] = {}

    async def main(self, directory: Directory) -> None:
        self.wallet = None
        engine = Engine(directory, NoMetrics(), HORIZONS)  # type: ignore[arg-type]
        reader = Reader(engine)
        await engine.start()
        Sweeper(engine, reader).start()
        GroupSweeper(engine).start()
        if self._holds:
            Expirer(engine).start()
        self.engine = engine
        self.wallet = ClusterWallet(engine, reader)

    def kill(self) -> None:
        super().kill()
        self.wallet = None
        requests, self.requests = self.requests, {}
        for lost in requests.values():
            lost()

    def handle(
        self,
        make: Callable[[ClusterWallet], Coroutine[Any, Any, Any]],
        done: Callable[[asyncio.Task[Any]], None],
        lost: Callable[[], None],
    ) -> None:
        """Work on one request in this process; `lost` is called when the process dies before `done`."""
        wallet = self.wallet
        if not self.alive or wallet is None:
            lost()
            return
        ticket = object()
        self.requests[ticket] = lost

        def finished(task: asyncio.Task[Any]) -> None:
            if self.requests.pop(ticket, None) is not None:
                done(task)

        self.loop.call_soon(lambda: self.loop.create_task(make(wallet)).add_done_callback(finished))


class JournalProcess(Process):
    """`wallet-engine journal` on a directory in memory; synced entries outlive it."""

    def __init__(
        self,
        world: World,
        keeper: Keeper,
        network: Network,
        name: str,
        directory: Path,
        listener: DurableListener,
    ) -> None:
        super().__init__(world, keeper, network, name)
        self.directory = directory
        self.listener = listener
        self.writer: SimWriter | None = None
        #: The same, also after the process's death: its disk is still part of a quorum that has marked a chain.
        self.chain: SimWriter | None = None
        #: Entries that are on the disk and may not be receipted yet.
        self.withheld: dict[int, list[Appended]] = {}
        #: The next commit kills the process: `before` the write, or `after` it and before any receipt.
        self.die_at_sync = ""
        #: The copy in whose place it counts; whether its disk is lost, so that it never starts again.
        self.replaces: str | None = None
        self.gone = False

    def start(self) -> None:
        if not self.gone:
            super().start()

    async def main(self, directory: Directory) -> None:
        writer = await asyncio.to_thread(SimWriter, self)
        listening = Listening(self.name, 0, None)
        metrics: Any = NoMetrics()
        copy = CopyProcess(directory, writer, metrics, Troubles())
        await copy.run(listening, asyncio.Event(), self.replaces)

    def kill(self) -> None:
        super().kill()
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def receipted(self, entry: Appended) -> None:
        """The entry is on the disk, and may be receipted."""
        partition, payload, header, _ = entry
        if self.chain is not None and self.chain.has_on_disk(partition, header):
            self.listener.durable(self.name, partition, payload, header)

    def receipt_withheld(self, partition: int) -> None:
        for entry in self.withheld.pop(partition, ()):
            self.receipted(entry)

    def at_sync(self, moment: str) -> None:
        if self.die_at_sync == moment:
            self.die_at_sync = ""
            self.kill()
            self.start_later(0.05 + self.world.rng.random())
            raise Killed


class SimCopy(JournalCopy):
    """The real copy; tells the process which entries it may receipt from now on."""

    def __init__(self, writer: JournalWriter) -> None:
        super().__init__(writer)
        assert isinstance(writer, SimWriter)
        self._process = writer.process
        writer.copy = self

    def confirm(self, epochs: Iterable[tuple[int, int]]) -> list[tuple[int, str, int]]:
        epochs = list(epochs)
        receipts = super().confirm(epochs)
        for partition, epoch in epochs:
            if self.confirmed.get(partition) == epoch:
                self._process.receipt_withheld(partition)
        return receipts


class SimWriter(JournalWriter):
    """The real writer; tells which entries became durable, and may die before or after a commit."""

    def __init__(self, process: JournalProcess) -> None:
        self.process = process
        self.copy: JournalCopy | None = None
        self._appended: list[Appended] = []
        self._groups: dict[int, list[Appended]] = {}
        super().__init__(process.directory, process.name)
        process.writer = process.chain = self  # at once: a kill must find it, to release its lock

    def has_on_disk(self, partition: int, header: EntryHeader) -> bool:
        """Whether the chain has this entry, also once the writer is closed."""
        chain = self._chains.get(partition)
        return (
            chain is not None
            and chain.durable.seq >= header.seq
            and chain.recent_nonce(header.seq) == header.nonce
        )

    def append(self, partition: int, payload: bytes, header: EntryHeader, *, bound: bool = True) -> None:
        super().append(partition, payload, header, bound=bound)
        self._appended.append((partition, payload, header, bound))

    def cut(self) -> Group | None:
        group = super().cut()
        if group is not None:
            self._groups[group.ordinal] = self._appended
            self._appended = []
        return group

    def commit(self, group: Group) -> None:
        self.process.at_sync("before")
        super().commit(group)
        confirmed = self.copy.confirmed if self.copy else {}
        for entry in self._groups.pop(group.ordinal):
            partition, _, header, bound = entry
            self.process.listener.on_disk(self.journal_id, partition, header.seq)
            if bound and confirmed.get(partition, -1) >= header.epoch:
                self.process.receipted(entry)
            else:
                self.process.withheld.setdefault(partition, []).append(entry)
        self.process.at_sync("after")
