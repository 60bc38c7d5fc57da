"""Answers the questions of services from a copy's segments: the outcome of credits, and the texts of entries.

When there is no room, or this copy cannot answer, it gives no answer or an empty one; the service then asks
another copy.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from wallet_engine.domain.errors import WalletError, text_of
from wallet_engine.journal.credits import CreditSearch
from wallet_engine.journal.link_terms import Durable
from wallet_engine.journal.link_wire import EntryText, FindCredits, FindEntry, ServiceQuestion, encode
from wallet_engine.journal.refusals import Refusals
from wallet_engine.telemetry.logging import get_logger

#: Maximum searches for credits at a time, of all services.
SEARCHES_MAX: Final = 64
#: Maximum entries waiting to be looked up, of all services.
ENTRIES_WANTED_MAX: Final = 256

#: Sends an encoded answer to the service that asked.
Send = Callable[[bytes], None]

log = get_logger(__name__)


class Questions:
    """Answers questions in the background; each answer goes to `send`."""

    def __init__(self, durable: Durable, refusals: Refusals) -> None:
        self.search = CreditSearch(durable)
        self._durable = durable
        self._refusals = refusals
        self._searches: set[asyncio.Task[None]] = set()
        #: Questions that the next read answers; one read at a time takes all that wait.
        self._wanted: list[tuple[FindEntry, Send]] = []
        self._reading: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Questions searches={len(self._searches)} entries={len(self._wanted)}>"

    def take(self, question: ServiceQuestion, send: Send) -> None:
        """Start answering; `send` may be called at once, later or never."""
        if isinstance(question, FindCredits):
            self._begin_search(question, send)
        else:
            self._want_entry(question, send)

    async def close(self) -> None:
        """Wait for the running look-ups."""
        reading = () if self._reading is None else (self._reading,)
        await asyncio.gather(*self._searches, *reading, return_exceptions=True)

    def _begin_search(self, question: FindCredits, send: Send) -> None:
        if len(self._searches) >= SEARCHES_MAX:
            self._refusals.note("searches")
            return
        task = asyncio.get_running_loop().create_task(self._search(question, send), name="credit-search")
        self._searches.add(task)
        task.add_done_callback(self._searches.discard)

    async def _search(self, question: FindCredits, send: Send) -> None:
        try:
            found = await self.search.find(question)
        except (WalletError, OSError) as error:
            log.error("credits were not looked up", partition=question.partition, error=text_of(error))
            return
        if found is not None:
            send(encode(found))

    def _want_entry(self, question: FindEntry, send: Send) -> None:
        if len(self._wanted) >= ENTRIES_WANTED_MAX:
            send(encode(EntryText(question.request, b"")))
            return
        self._wanted.append((question, send))
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_entries(), name="entries")

    async def _read_entries(self) -> None:
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, []
                asks = [((each.partition, each.seq, each.nonce), each.wanted) for each, _ in wanted]
                texts = [b""] * len(wanted)
                try:
                    texts = await self._durable.entries(asks)
                except (WalletError, OSError) as error:
                    log.error("entries were not looked up", error=text_of(error))
                for (question, send), text in zip(wanted, texts, strict=True):
                    send(encode(EntryText(question.request, text)))
        finally:
            self._reading = None
