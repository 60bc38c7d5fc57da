"""Reads an old operation from its entry, in the partition's stream or in a journal copy."""

import asyncio
from contextlib import suppress
from typing import Final

from wallet_engine.domain.entry import parse_entry
from wallet_engine.domain.errors import Outage
from wallet_engine.domain.operation import Operation
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import Reader
from wallet_engine.journal.link_wire import EntryText, FindEntry
from wallet_engine.redis_store.stream import stream_entries

#: How long one copy may take; it reads a part of its segments.
COPY_ANSWERS_S_MAX: Final = 5.0
#: How many copies are asked one after the other, each chosen at random: a lagging copy cannot answer.
COPIES_ASKED_MAX: Final = 6
#: For all of them together.
ENTRY_S_MAX: Final = 10.0
_PAUSE_S: Final = 0.05


class Entries:
    """Reads operations of entries that are durable."""

    def __init__(self, engine: Engine, reader: Reader) -> None:
        self._engine = engine
        self._reader = reader

    def __repr__(self) -> str:
        return f"<Entries {self._engine!r}>"

    async def operation(self, partition: int, seq: int, idx: int, account: str, id_: str) -> Operation | None:
        """Operation `idx` of an entry that is known to be durable; None if its account or id is another.

        Raises `Outage`.
        """
        for read in (self._of_stream, self._of_journal):
            payload = await read(partition, seq)
            operations = parse_entry(payload).operations if payload is not None else ()
            found = operations[idx] if idx < len(operations) else None
            if found is not None and (found.account, found.id) == (account, id_):
                return found
        return None

    async def _of_stream(self, partition: int, seq: int) -> bytes | None:
        keys = self._engine.cluster.accumulators[partition].keys
        found = await self._reader.glance(partition, "XRANGE", keys.journal, f"{seq}-0", f"{seq}-0")
        return stream_entries(found)[0].payload if found else None

    async def _of_journal(self, partition: int, seq: int) -> bytes:
        with suppress(TimeoutError):
            async with asyncio.timeout(ENTRY_S_MAX):
                for _ in range(COPIES_ASKED_MAX):
                    at_seq, nonce = await self._reader.position(partition)
                    question = FindEntry(0, partition, at_seq, nonce, seq)
                    with suppress(TimeoutError):
                        answer = await self._engine.tracker.answer_of(question, EntryText, COPY_ANSWERS_S_MAX)
                        if answer.text:
                            return answer.text
                    await asyncio.sleep(_PAUSE_S)
        raise Outage(
            "journal_unavailable", f"no journal copy could say what entry {seq} of partition {partition} is"
        )
