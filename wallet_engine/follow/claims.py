"""The partitions that this process follows for a sink, shared evenly by claims in the ZooKeeper tree."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from wallet_engine.domain.errors import WalletError, text_of
from wallet_engine.routing.following import FollowerInfo, Following, groups_of
from wallet_engine.telemetry.logging import get_logger

#: How often claims are checked, besides whenever a process comes or goes.
LOOK_S: Final = 1.0

log = get_logger(__name__)


class Claims:
    """The claims of one process for one sink. Use it on one event loop."""

    def __init__(
        self, following: Following, info: FollowerInfo, partitions: int, groups: int | None = None
    ) -> None:
        """`groups`: number of claims for all partitions; with 1, one process has all and the others wait."""
        self._following = following
        self.info = info
        self._partitions = partitions
        self._groups = groups or groups_of(partitions)
        #: Groups claimed by this process.
        self.owned: frozenset[int] = frozenset()
        #: Groups that another process should have: the follower here stops them, then calls `release`.
        self.unwanted: frozenset[int] = frozenset()
        #: Set whenever `owned` or `unwanted` has changed.
        self.changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Claims {self.info.sink} {sorted(self.owned)} of {self._groups}>"

    @property
    def partitions(self) -> list[int]:
        """The partitions to follow now."""
        wanted = self.owned - self.unwanted
        return [p for p in range(self._partitions) if p % self._groups in wanted]

    def partitions_of(self, group: int) -> range:
        return range(group, self._partitions, self._groups)

    async def run(self) -> None:
        """Keep the claims in step with the processes that are present."""
        loop = asyncio.get_running_loop()
        came_or_went = asyncio.Event()

        def told(_names: list[str]) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(came_or_went.set)

        unsubscribe = await asyncio.to_thread(self._following.watch_members, self.info.sink, told)
        try:
            while True:
                came_or_went.clear()
                await self.look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await came_or_went.wait()
        finally:
            unsubscribe()

    async def look(self) -> None:
        """Check the claims once. While the tree is away, they stay as they are."""
        try:
            owned, unwanted = await asyncio.to_thread(self._claim)
        except WalletError as error:
            log.debug("claims stay as they are", sink=self.info.sink, error=text_of(error))
            return
        if (owned, unwanted) != (self.owned, self.unwanted):
            self.owned, self.unwanted = owned, unwanted
            log.info("follows", sink=self.info.sink, groups=sorted(owned - unwanted), of=self._groups)
            self.changed.set()

    def _claim(self) -> tuple[frozenset[int], frozenset[int]]:
        sink, own_id = self.info.sink, self.info.follower_id
        self._following.register(self.info)
        state = self._following.sink(sink)
        members = sorted(state.members)
        place = members.index(own_id) if own_id in members else 0
        ours = {group for group in range(self._groups) if group % max(1, len(members)) == place}
        tried = ours | self.owned
        # Existing claims are only read, because a refused claim also costs a write in ZooKeeper.
        kept = {group for group in tried if state.claims.get(group) == own_id}
        free = tried - set(state.claims)
        owned = frozenset(kept | {group for group in free if self._following.claim(sink, group, own_id)})
        return owned, owned - ours

    async def release(self, groups: Collection[int]) -> None:
        """Give up these groups, which this process no longer uses."""
        for group in groups:
            await asyncio.to_thread(self._following.release, self.info.sink, group, self.info.follower_id)
        self.owned -= frozenset(groups)
        self.unwanted -= frozenset(groups)

    async def close(self) -> None:
        """Give up everything: the other followers take over at once."""
        with suppress(WalletError):
            await self.release(self.owned)
