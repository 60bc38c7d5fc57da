"""One journal copy as the others see it: what it has promised, and which of its entries it may receipt.

The copy gives receipts for entries on its disk only while it is in the epoch in force. From a promise until
that epoch (or a newer one) is confirmed, it gives none for the partition. Otherwise a receipt of one epoch,
and a receipt for the same entry while another epoch is prepared, could form a quorum that a later recovery
need not see.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from wallet_engine.domain.entry import EntryHeader
from wallet_engine.journal.chains import RECENT_ENTRIES_PER_PARTITION, Position
from wallet_engine.journal.copies_wire import Standing
from wallet_engine.journal.link_wire import Ask
from wallet_engine.journal.lookup import Place, find_entries, find_nonces
from wallet_engine.journal.threads import in_thread
from wallet_engine.journal.writer import JournalWriter

#: (partition, nonce, seq)
Receipt = tuple[int, str, int]


class JournalCopy:
    """The writer of a directory, and the epoch in which each partition of it is receipted."""

    def __init__(self, writer: JournalWriter) -> None:
        self.writer = writer
        #: partition -> epoch whose chain this copy is known to follow.
        self.confirmed: dict[int, int] = {}
        #: partition -> the first of its entries that came in an epoch which is not confirmed yet. Asked for those, this
        #: copy says nothing: its view may be older than another copy's, whose chain would then replace them.
        self._unconfirmed: dict[int, int] = {}
        #: As many receipts as the writer remembers: a service that waits for an older entry asks for it.
        self._withheld: defaultdict[int, deque[Receipt]] = defaultdict(
            lambda: deque(maxlen=RECENT_ENTRIES_PER_PARTITION)
        )

    def __repr__(self) -> str:
        withheld = sum(map(len, self._withheld.values()))
        return f"<JournalCopy {self.journal_id} confirmed={len(self.confirmed)} withheld={withheld}>"

    @property
    def journal_id(self) -> str:
        return self.writer.journal_id

    @property
    def directory(self) -> Path:
        return self.writer.directory

    def positions(self) -> dict[int, Position]:
        """partition -> last durable entry, for the partitions that are receipted now."""
        return {p: at for p, at in self.writer.positions().items() if self._may_receipt(p, at.seq)}

    def _may_receipt(self, partition: int, seq: int) -> bool:
        return partition in self.confirmed and not 0 < self._unconfirmed.get(partition, 0) <= seq

    async def nonces(self, places: Iterable[Place]) -> dict[Place, str]:
        """The nonces of the durable entries at these (partition, seq), without places that have none.

        They come from memory; a thread looks up old ones in the segments. Raises `Damaged`, `Outage`,
        `OSError`.
        """
        writer = self.writer
        found: dict[Place, str] = {}
        old: list[Place] = []
        for partition, seq in places:
            nonce = writer.nonce_in_memory(partition, seq)
            if nonce is not None:
                found[partition, seq] = nonce
            elif 0 < seq <= writer.durable_seq(partition):
                old.append((partition, seq))
        if old:
            found |= await in_thread(find_nonces, self.directory, old, writer.last_index())
        return found

    async def held(self, asks: Sequence[Ask]) -> list[bool]:
        """Whether exactly these nonces are durable at their places."""
        nonces = await self.nonces((partition, seq) for partition, seq, _ in asks)
        return [seq > 0 and nonces.get((partition, seq)) == nonce for partition, seq, nonce in asks]

    async def receipted(self, asks: Sequence[Ask]) -> list[bool]:
        """Whether exactly these nonces are durable at their places, and may be receipted."""
        confirmed = dict(self.confirmed)
        held = await self.held(asks)
        # If a new epoch came meanwhile, its chain may lack an entry that was looked up before.
        return [
            found
            and self._may_receipt(partition, seq)
            and self.confirmed.get(partition) == confirmed.get(partition)
            for (partition, seq, _), found in zip(asks, held, strict=True)
        ]

    async def entries(self, asks: Sequence[tuple[Ask, int]]) -> list[bytes]:
        """The text of each wanted entry, if its chain has the entry of the `Ask` and may be receipted."""
        sure = await self.receipted([ask for ask, _ in asks])
        places = [
            (ask[0], wanted)
            for (ask, wanted), known in zip(asks, sure, strict=True)
            if known and wanted <= ask[1]
        ]
        last = self.writer.last_index()
        found = await in_thread(find_entries, self.directory, places, last) if places else {}
        return [
            found.get((ask[0], wanted), b"") if known else b""
            for (ask, wanted), known in zip(asks, sure, strict=True)
        ]

    def remembers(self, ask: Ask) -> bool | None:
        """`receipted` of one entry, from memory; None when only the segments know."""
        partition, seq, nonce = ask
        if not self._may_receipt(partition, seq) or not 0 < seq <= self.writer.durable_seq(partition):
            return False
        found = self.writer.nonce_in_memory(partition, seq)
        return None if found is None else found == nonce

    def standings(self, partitions: Iterable[int]) -> list[Standing]:
        """The standings of this copy in these partitions; in all that it knows if none are named."""
        return [self._standing(partition) for partition in partitions or self.writer.partitions()]

    def _standing(self, partition: int) -> Standing:
        writer = self.writer
        at = writer.position(partition)
        return Standing(partition, at.seq, at.nonce, writer.view(partition), writer.epoch_min(partition))

    def promise(self, ballots: Sequence[tuple[int, int]]) -> list[Standing]:
        """Refuse older epochs of these partitions from now on, durably. Returns their standings.

        A partition that already promised this epoch or a newer one keeps its promise, and `promised` shows
        that.
        """
        taken = [
            (partition, epoch) for partition, epoch in ballots if self.writer.epoch_min(partition) < epoch
        ]
        for partition, epoch in taken:
            self.writer.fence(partition, epoch)
            self.confirmed.pop(partition, None)
        self.writer.sync()
        mine = dict(taken)
        return [
            standing if partition in mine else standing._replace(promised=max(standing.promised, epoch + 1))
            for (partition, epoch), standing in zip(
                ballots, self.standings([p for p, _ in ballots]), strict=True
            )
        ]

    def superseded(self, partition: int, epoch: int) -> bool:
        """Whether a newer epoch than this was promised."""
        return self.writer.epoch_min(partition) > epoch

    def receiptable(self, partition: int, header: EntryHeader) -> bool:
        """Whether a newly durable entry may be receipted now; if not, it is once its epoch is confirmed."""
        if self.confirmed.get(partition, -1) >= header.epoch:
            return True
        self.withhold(partition, header)
        return False

    def withhold(self, partition: int, header: EntryHeader) -> None:
        """The entry is receipted when the next epoch is confirmed; so is every later one that is asked for."""
        self._withheld[partition].append((partition, header.nonce, header.seq))
        first = self._unconfirmed.setdefault(partition, header.seq)
        self._unconfirmed[partition] = min(first, header.seq)

    def confirm(self, epochs: Iterable[tuple[int, int]]) -> list[Receipt]:
        """These epochs are in force and the chains here follow them.

        Returns the receipts that are due now.
        """
        receipts: list[Receipt] = []
        for partition, epoch in epochs:
            if not self.superseded(partition, epoch):
                self.confirmed[partition] = epoch
                self._unconfirmed.pop(partition, None)
                receipts += self._withheld.pop(partition, ())
        return [receipt for receipt in receipts if self.remembers((receipt[0], receipt[2], receipt[1]))]
