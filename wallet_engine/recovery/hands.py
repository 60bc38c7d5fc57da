"""The writes of a recovery to one partition. Each is a script that first checks that the partition is in its hands.

A recovery may be stopped for any time, and another one may have taken the partition meanwhile: it may serve again.
Every recovery has an epoch of its own, so a partition is in the hands of the one whose epoch its `meta` has, as long
as it is `recovering`. Replays and snapshots check the same (`lua/apply/guards.lua`, `lua/restore_part.lua`).
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import Final

from wallet_engine.redis_store.connection import Connection, Word
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.redis_store.stream import to_stream
from wallet_engine.routing.slots import slot_of

KEYS_PER_CALL_MAX: Final = 100
#: The nonce of a partition whose slot was away. No journal knows it.
AWAY: Final = "away"


class Overtaken(OSError):
    """Another recovery has the partition now, or its node has lost it."""


class Hands:
    """One partition for the recovery of one epoch. Every method raises `Overtaken` when another one has taken it."""

    def __init__(self, connection: Connection, partition: int, keys: PartitionKeys, epoch: int) -> None:
        self.connection = connection
        self.partition = partition
        self.keys = keys
        self.epoch = epoch

    def __repr__(self) -> str:
        return f"<Hands p={self.partition} epoch={self.epoch}>"

    async def claim(self) -> None:
        """Take the partition out of service, and for this recovery: nobody writes to it in an older epoch."""
        await self._do("claim", (self.keys.meta,), (self.epoch,))

    async def distrust(self, state: str | None) -> None:
        """Have the partition made anew by whichever recovery completes, if it is in this state."""
        words = (2, "state", state or "", "epoch", self.epoch, "nonce", AWAY)
        await self._do("turn", (self.keys.meta,), words)

    async def clear(self) -> str:
        """Delete every key. Returns the nonce that `meta` has until `restored`; no journal knows it."""
        nonce = f"loading-{secrets.token_hex(8)}"
        slot, meta = slot_of(self.keys.tag), self.keys.meta
        while True:
            found = await self.connection.call("CLUSTER", "GETKEYSINSLOT", slot, KEYS_PER_CALL_MAX)
            others = [name for name in found if name != meta.encode()]
            await self._do("clear", (meta, *others), (self.epoch, nonce))
            if not others:
                return nonce

    async def restored(self, nonce: str, sizes: Mapping[str, int], meta: Iterable[Word]) -> None:
        """Write fields and values of `meta`, if each key in `sizes` has as many fields. `nonce`: of `clear`."""
        await self._do("restored", (self.keys.meta, *sizes), (self.epoch, nonce, *sizes.values(), *meta))

    async def unstream(self) -> None:
        """Delete the stream."""
        await self._do("unstream", (self.keys.meta, self.keys.journal), (self.epoch,))

    async def restream(self, seq: int, payload: bytes) -> None:
        """Write an entry to the stream, which has no newer one."""
        words = (self.epoch, f"{seq}-0", *to_stream(payload))
        await self._do("restream", (self.keys.meta, self.keys.journal), words)

    async def stop(self, why: str) -> None:
        """Stop the partition: no recovery lets it serve until `lua/distrust.lua` takes that back."""
        ours = (2, "state", "recovering", "epoch", self.epoch)
        await self._do("turn", (self.keys.meta,), (*ours, "state", "stopped", "fault", why))

    async def certify(self, seq: int, nonce: str, owner: str) -> None:
        """Let the partition serve, if it is at this entry."""
        await self._do("certify", (self.keys.meta,), (seq, nonce, self.epoch, owner))

    async def _do(self, script: str, names: tuple[Word, ...], words: Iterable[Word]) -> None:
        done = await self.connection.call("EVAL", load_script(script).text, len(names), *names, *words)
        if not done or done == [0]:
            raise Overtaken(f"partition {self.partition} has changed while it was recovered")
