"""The image of a partition against the fold of its journal. Plain values in, plain values out."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from wallet_engine.admin.image import Part, PartitionImage
from wallet_engine.domain.entry import EntryHeader
from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.money import check_currency, format_amount
from wallet_engine.domain.oracle_state import PartitionState

#: Mismatches kept in words, of one partition; the others are only counted.
MISMATCHES_MAX: Final = 100
#: An entry that is older than the image by more than this was there when the image was taken. Both times are of
#: the same Redis, whose clock may be corrected a little; what is younger is found by the next run.
BEHIND_MS_MIN: Final = 100

#: Fields of `meta` that the journal determines.
_META_FIELDS: Final = ("seq", "nonce", "clock", "window", "window_started", "currencies", "flagged")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference. None stands for what is not there."""

    #: None for what concerns the files of the journal.
    partition: int | None
    #: `balance`, `flags`, `dedupe`, `open`, `meta`, `key`, `books` or `journal`
    what: str
    key: str
    journal: str | None
    redis: str | None

    def document(self) -> dict[str, Any]:
        return asdict(self)


class Comparison:
    """Compares each part of an image when the fold stands at the part's sequence number.

    Give it the fold's state after every entry (`at`), the header of the entry behind the last one wanted, if
    there is one (`next_entry`), and in the end the state (`close`).
    """

    def __init__(self, image: PartitionImage) -> None:
        self.image = image
        self.mismatches: list[Mismatch] = []
        self.mismatches_total = 0
        self._waiting = deque(() if image.lost else image.parts)
        self._stray: frozenset[str] = frozenset()
        self._behind: int | None = None

    def __repr__(self) -> str:
        return (
            f"<Comparison p={self.image.partition} waiting={len(self._waiting)} "
            f"mismatches={self.mismatches_total}>"
        )

    @property
    def end_seq(self) -> int | None:
        """The last sequence number wanted of the fold; None for all there are."""
        return None if self.image.lost else self.image.last.seq

    def at(self, state: PartitionState) -> None:
        while self._waiting and self._waiting[0].seq == state.seq:
            part = self._waiting.popleft()
            if part is self.image.first:
                self._compare_names(state)
            self._compare_meta(state, part)
            if part.kind == "open":
                self._compare_open(state, part)
            elif part.kind not in self._stray:
                self._compare_hash(state, part)

    def next_entry(self, header: EntryHeader) -> None:
        """Redis is behind when the journal has an entry which is older than the image and not in it."""
        if self._behind is None and header.time_ms < self.image.last.time_ms - BEHIND_MS_MIN:
            self._behind = header.seq

    def close(self, journal_seq: int, *, damaged: bool) -> None:
        """Note what could not be compared. `damaged`: said elsewhere why the journal ends at `journal_seq`."""
        if self.image.state == "recovering":
            self._note("meta", "state", "live", self.image.state)
        if self.image.lost:
            if journal_seq or self.image.kinds:
                self._note("meta", "seq", str(journal_seq), self.image.first.meta.get("seq"))
        elif self._waiting and not damaged:
            self._note("journal", "last seq", str(journal_seq), str(self.image.last.seq))
        elif self._behind is not None:
            self._note("meta", "seq", f"{self._behind} or more", str(self.image.last.seq))

    def _compare_names(self, state: PartitionState) -> None:
        """At the first part: which hashes and which fields there must be."""
        hashes = _hashes(state)
        self._stray = self.image.kinds - hashes.keys() - {"meta", "journal", "open"}
        for kind in sorted(self._stray):
            self._note("key", kind, None, "present")
        for kind, fields in hashes.items():
            for name in fields.keys() - self.image.fields_of(kind):
                self._difference(kind, name, _value(state, kind, name), None)

    def _compare_meta(self, state: PartitionState, part: Part) -> None:
        expected = {
            "seq": str(state.seq),
            "nonce": state.nonce,
            "clock": str(state.clock),
            "window": str(state.window),
            "window_started": str(state.window_started),
            "currencies": ",".join(state.currencies),
            "flagged": "1" if state.flags else None,
        }
        for name in _META_FIELDS:
            if part.meta.get(name) != expected[name]:
                self._note("meta", name, expected[name], part.meta.get(name))

    def _compare_open(self, state: PartitionState, part: Part) -> None:
        expected = {}
        for seq, refunded in state.open.items():
            expected[str(seq)] = str(seq)
            expected.update((f"{seq}.{idx}", str(seq)) for idx in refunded)
        for member in expected.keys() | part.fields.keys():
            if expected.get(member) != part.fields.get(member):
                self._note("open", member, expected.get(member), part.fields.get(member))

    def _compare_hash(self, state: PartitionState, part: Part) -> None:
        for name, found in part.fields.items():
            expected = _value(state, part.kind, name)
            if expected != found:
                self._difference(part.kind, name, expected, found)

    def _difference(self, kind: str, name: str, journal: str | None, found: str | None) -> None:
        what, _, detail = kind.partition(":")
        if what == "balance":
            self._note(what, f"{name} {detail}", _amount(journal, detail), _amount(found, detail))
        elif what == "seen":
            self._note("dedupe", f"{name} (window {detail})", journal, found)
        else:
            self._note(what, name, journal, found)

    def _note(self, what: str, key: str, journal: str | None, found: str | None) -> None:
        self.mismatches_total += 1
        if len(self.mismatches) < MISMATCHES_MAX:
            self.mismatches.append(Mismatch(self.image.partition, what, key, journal, found))


def _hashes(state: PartitionState) -> dict[str, Mapping[str, Any]]:
    """kind -> fields by name, of every hash that Redis must hold; Redis keeps no empty hash."""
    hashes: dict[str, Mapping[str, Any]] = {"flags": state.flags}
    hashes |= {f"seen:{window}": records for window, records in state.seen.items()}
    hashes |= {f"balance:{currency}": book for currency, book in state.balances.items()}
    return {kind: fields for kind, fields in hashes.items() if fields}


def _value(state: PartitionState, kind: str, name: str) -> str | None:
    """What Redis must hold in one field."""
    what, _, detail = kind.partition(":")
    if what == "balance":
        minor = state.balances.get(detail, {}).get(name)
        return None if minor is None else str(minor)
    if what == "seen":
        return state.seen.get(int(detail), {}).get(name) if detail.isdigit() else None
    flags = state.flags.get(name)
    return None if flags is None else flags.text()


def _amount(text: str | None, currency: str) -> str | None:
    """Minor units as people write them; as they stand when they are no number."""
    if text is None:
        return None
    try:
        return format_amount(int(text), check_currency(currency))
    except (ValueError, InvalidInput):
        return text
