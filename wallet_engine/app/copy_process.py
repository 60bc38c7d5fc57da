"""One journal copy: makes its parts, registers it, joins the copies that count, keeps its shards, closes it."""

import asyncio
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from wallet_engine.app.callers_watch import CallersWatch
from wallet_engine.app.keepers import Keepers, bounds_of
from wallet_engine.app.listening import Listening
from wallet_engine.app.pruner import Pruner
from wallet_engine.app.recovery_calls import RecoveryCalls
from wallet_engine.app.troubles import Troubles
from wallet_engine.app.versions import OWN_VERSIONS
from wallet_engine.domain.errors import WalletError, text_of
from wallet_engine.domain.paths import path_text
from wallet_engine.drain.group_commit import GroupCommit
from wallet_engine.journal.bounds import Bounds
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.credits import CreditSearch
from wallet_engine.journal.feed_server import FeedServer, FeedSession
from wallet_engine.journal.link_server import LinkServer
from wallet_engine.journal.peer_tls import peer_tls
from wallet_engine.journal.refusals import Refusals
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.recovery.fellows import Fellows
from wallet_engine.recovery.join import join
from wallet_engine.recovery.keeper import ShardKeeper
from wallet_engine.recovery.peer_session import PeerSession
from wallet_engine.recovery.pruning import Keep
from wallet_engine.recovery.returning import Returning
from wallet_engine.routing.directory import Directory, on_loop
from wallet_engine.routing.model import JournalInfo
from wallet_engine.routing.tree import Unsubscribe
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

#: Pause before a failed announcement is repeated.
ANNOUNCE_RETRY_S: Final = 2.0
#: How often the list of tasks to watch is renewed: keepers come and go.
LOOK_S: Final = 1.0

log = get_logger(__name__)


class CopyProcess:
    """Serves receipts and keeps every shard of the map. `run` is called once."""

    def __init__(
        self,
        tree: Directory,
        writer: JournalWriter,
        metrics: Metrics,
        troubles: Troubles,
        *,
        keep: Keep | None = None,
    ) -> None:
        """`keep`: what `Pruner` keeps of the journal; without it nothing is removed."""
        self._tree = tree
        self._writer = writer
        self._troubles = troubles
        self._prune = keep
        self._copy = copy = JournalCopy(writer)
        self._fellows = fellows = Fellows(tree, copy)
        self._keepers = Keepers(self._keeper, self._bound)
        self._server = LinkServer(
            copy,
            RecoveryCalls(self._keepers.check).take,
            self._keepers.written,
            self._keepers.new,
            lambda asker: PeerSession(asker, fellows, copy, self._commit, self._keepers.promised),
            refusals=Refusals(lambda reason: metrics.journal_refused.labels(reason).inc()),
        )
        self._server.questions.search = CreditSearch(copy, fellows.quorum_seq)
        self._feed = FeedServer(writer, fellows.quorum_seq, self._server.brought)
        self._server.on_follower = lambda _: FeedSession(self._feed)
        self._commit = GroupCommit(copy, self._server, metrics)
        self._returning = Returning(copy, self._commit, fellows)
        self._unwatch: list[Unsubscribe] = []

    def __repr__(self) -> str:
        return f"<CopyProcess {self._writer.journal_id} {self._keepers!r}>"

    def _keeper(self, shard: str) -> ShardKeeper:
        return ShardKeeper(
            shard, self._tree, self._copy, self._commit, self._fellows, self._returning, self._tell_refused
        )

    def _tell_refused(self, partition: int, why: str) -> None:
        self._troubles.teller(f"recovery of {partition}")(why)

    def _bound(self, bounds: Bounds) -> None:
        self._server.bounds = bounds

    async def run(
        self,
        listening: Listening,
        stop: asyncio.Event,
        replaces: str | None = None,
        *,
        insecure: bool = False,
    ) -> None:
        """Run until `stop`. Raises the error that ended it: a disk that fails, a copy that was replaced, a bug."""
        tree = self._tree
        known_map = await asyncio.to_thread(tree.partition_map)
        self._server.bounds = bounds_of(known_map, await asyncio.to_thread(tree.readable_shards))
        _, bound = await self._server.start(listening.host, listening.port)
        info = _registration(self._writer, listening.advertised(bound), insecure=insecure)
        await asyncio.to_thread(tree.register_journal, info)
        log.info("journal open", journal=info.journal_id, directory=info.directory, receipts=info.address)
        always = (
            asyncio.create_task(self._keep_pruned(), name="prune"),
            asyncio.create_task(self._count(replaces), name="member"),
            asyncio.create_task(self._returning.run(), name="returning"),
            asyncio.create_task(self._announce(info), name="announce"),
            asyncio.create_task(
                CallersWatch(self._server.ending, self._troubles.teller("callers")).run(), name="callers"
            ),
        )
        try:
            await self._until(stop, always)
        finally:
            await self._close(always)
            log.info("journal closed", journal=info.journal_id)

    async def _until(self, stop: asyncio.Event, always: Sequence[asyncio.Task[None]]) -> None:
        """Wait for `stop` or a failed task. No task returns normally: one that ends raises its error here."""
        failed = self._commit.failed
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stopping.done() and not failed.done():
                tasks = (*always, *self._keepers.tasks.values())
                waiting: list[asyncio.Future[Any]] = [stopping, failed, *tasks]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=LOOK_S)
                for task in always:
                    if task.done():
                        task.result()
                self._keepers.look()
            if failed.done():
                failed.result()
        finally:
            stopping.cancel()

    async def _close(self, always: Sequence[asyncio.Task[None]]) -> None:
        for stop_watching in self._unwatch:
            stop_watching()
        tasks = (*always, *self._keepers.tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fellows.close()
        await self._server.close()

    async def _count(self, replaces: str | None) -> None:
        """Join the copies that count, and take part for as long as this copy counts."""
        tree, loop, keepers = self._tree, asyncio.get_running_loop(), self._keepers
        await join(tree, self._copy, self._commit, self._fellows, replaces)
        self._unwatch.append(await asyncio.to_thread(tree.watch_map, on_loop(loop, keepers.map_changed)))
        self._unwatch.append(
            await asyncio.to_thread(tree.watch_shards, on_loop(loop, keepers.shards_changed))
        )
        await self._fellows.run()

    async def _keep_pruned(self) -> None:
        if self._prune is not None:
            tell = self._troubles.teller("prune")
            await Pruner(
                self._writer.directory, self._prune, self._tree, self._feed, self._fellows, tell
            ).run()
        await asyncio.Event().wait()

    async def _announce(self, info: JournalInfo) -> None:
        """Keep the troubles in the registration of this process up to date."""
        announced = info.troubles
        while True:
            while (now := self._troubles.now()) == announced:
                await self._troubles.changed()
            try:
                await asyncio.to_thread(self._tree.update_journal, replace(info, troubles=now))
                announced = now
            except WalletError as error:
                log.debug("not announced", error=text_of(error))
                await asyncio.sleep(ANNOUNCE_RETRY_S)


def _registration(writer: JournalWriter, address: str, *, insecure: bool) -> JournalInfo:
    tls = peer_tls()
    return JournalInfo(
        writer.journal_id,
        address,
        path_text(writer.directory.resolve()),
        os.getpid(),
        socket.gethostname(),
        insecure,
        tls="" if tls is None else tls.mode,
        versions=OWN_VERSIONS,
    )
