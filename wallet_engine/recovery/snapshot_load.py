"""Loads a snapshot into a dropped partition of a Redis node, in calls so small that no other partition waits.

During a load, `meta` holds a nonce that belongs to this load and that no journal knows. So a recovery that
finds a half-loaded partition drops it, and a load that was overtaken by another one writes nothing more
(`recovery/hands.py`).
`meta` becomes that of the snapshot only when every key has as many fields as were sent.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from wallet_engine.domain.key_names import META
from wallet_engine.domain.memory import FORM
from wallet_engine.journal.errors import Damaged
from wallet_engine.journal.snapshots import Part, Snapshot, list_snapshots, newest_usable, snapshot_path
from wallet_engine.journal.threads import in_thread
from wallet_engine.recovery.hands import Hands, Overtaken
from wallet_engine.redis_store.connection import Word, pack
from wallet_engine.redis_store.layout import write_words
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.telemetry.logging import get_logger

#: Parts in flight, of up to `PART_FIELDS_MAX` fields each.
PARTS_IN_FLIGHT_MAX: Final = 8

_PART: Final = load_script("restore_part")

log = get_logger(__name__)


async def newest_snapshot(journal: Path, partition: int, seq_max: int) -> Snapshot | None:
    """The newest whole snapshot of this journal up to `seq_max`, opened. Logs what is wrong with others."""
    snapshot, refused = await in_thread(_newest_usable, journal, partition, seq_max)
    for damage in refused:
        log.error("snapshot not used", partition=partition, error=str(damage))
    return snapshot


def _newest_usable(journal: Path, partition: int, seq_max: int) -> tuple[Snapshot | None, list[Damaged]]:
    name_max = snapshot_path(journal, partition, seq_max).name
    paths = [path for path in list_snapshots(journal).get(partition, []) if path.name <= name_max]
    return newest_usable(journal, paths)


class SnapshotLoader:
    """One load into one partition, whatever it holds."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._connection = hands.connection
        self._keys = hands.keys
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        return f"<SnapshotLoader {self._failure or self._hands}>"

    async def load(self, snapshot: Snapshot) -> None:
        """Leave the partition `recovering`, at the entry of the snapshot.

        Raises `Overtaken` when another process wrote to the partition meanwhile, `Damaged`, and what the
        connection raises.
        """
        connection, keys, epoch = self._connection, self._keys, self._hands.epoch
        loading = await self._hands.clear()
        await connection.call("SCRIPT", "LOAD", _PART.text)
        sizes: Counter[str] = Counter()
        meta: list[bytes] = []
        for part in snapshot.parts():
            if part.key == META:
                meta += part.words
                continue
            name = f"{part.key}{{{keys.tag}}}"
            sizes[name] += len(part.words) // 2
            words = ("EVALSHA", _PART.sha, 2, keys.meta, name, epoch, loading, *_command(part))
            connection.send(pack(words), self._check)
            while connection.in_flight >= PARTS_IN_FLIGHT_MAX:
                await asyncio.sleep(0)
            self._raise_failure()
        await connection.call("PING")
        self._raise_failure()
        meta += [b"owner", b"", b"form", FORM.encode()]
        try:
            await self._hands.restored(loading, sizes, meta)
        except Overtaken as error:
            raise Overtaken(f"{snapshot!r}: Redis does not hold what was loaded: {error}") from None

    def _check(self, reply: Any) -> None:
        if self._failure is None and reply != 1:
            overtaken = Overtaken(f"the partition {self._keys.tag} was changed while a snapshot was loaded")
            self._failure = reply if isinstance(reply, Exception) else overtaken

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _command(part: Part) -> Iterable[Word]:
    command, words = write_words(part.key, part.words)
    return (command, *words)
