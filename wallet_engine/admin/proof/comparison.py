"""Compares the image of a partition with the fold of its journal. No I/O."""

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Final

from wallet_engine.admin.proof.image import Part, PartitionImage
from wallet_engine.domain.entry import EntryHeader
from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.key_names import BALANCE, JOURNAL, META, META_FOLDED, OPEN, SEEN
from wallet_engine.domain.money import check_currency, format_amount
from wallet_engine.domain.oracle_state import CARRIED, PartitionState, View, meta_fields, views
from wallet_engine.redis_store.layout import key_of

#: Mismatches of one partition kept with their details; the others are only counted.
MISMATCHES_MAX: Final = 100
#: An entry that is older than the image by more than this existed when the image was taken. Both times are of the
#: same Redis, whose clock may be corrected a little. The next run checks younger entries.
BEHIND_MS_MIN: Final = 100

_NOTHING: Final = View({}, str)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference. None stands for a missing value."""

    #: None for a fault in the journal's files.
    partition: int | None
    #: `transit`, `balance`, `flags`, `dedupe`, `open`, `meta`, `key`, `books` or `journal`
    what: str
    key: str
    journal: str | None
    redis: str | None

    def document(self) -> dict[str, Any]:
        return asdict(self)


class Comparison:
    """Compares each part of an image with the fold at the part's sequence number.

    The caller gives it the fold's state after every entry (`at`), the header of the first entry after the last one
    wanted, if there is one (`next_entry`), and at the end calls `close`.
    """

    def __init__(self, image: PartitionImage) -> None:
        self.image = image
        self.mismatches: list[Mismatch] = []
        self.mismatches_total = 0
        self._waiting = deque(() if image.lost else image.parts)
        self._stray: frozenset[str] = frozenset()
        #: Key whose fields may be removed -> expected fields of the first part that no part has.
        self._missing: dict[str, set[str]] = {}
        self._behind: int | None = None

    def __repr__(self) -> str:
        return (
            f"<Comparison p={self.image.partition} waiting={len(self._waiting)} "
            f"mismatches={self.mismatches_total}>"
        )

    @property
    def end_seq(self) -> int | None:
        """The last sequence number to fold; None for all."""
        return None if self.image.lost else self.image.last.seq

    def at(self, state: PartitionState) -> None:
        while self._waiting and self._waiting[0].seq == state.seq:
            part = self._waiting.popleft()
            expected = views(state)
            if part is self.image.first:
                self._compare_names(expected)
            self._compare_meta(state, part)
            if part.kind not in self._stray:
                self._compare_fields(part, expected.get(part.kind, _NOTHING))
            if part is self.image.last:
                self._compare_missing(expected)

    def next_entry(self, header: EntryHeader) -> None:
        """Notes that Redis is behind if the journal has an entry that is older than the image and not in it."""
        if self._behind is None and header.time_ms < self.image.last.time_ms - BEHIND_MS_MIN:
            self._behind = header.seq

    def close(self, journal_seq: int, *, damaged: bool) -> None:
        """Note what could not be compared. `damaged`: another mismatch explains why the journal ends early."""
        if self.image.state in ("recovering", "stopped"):
            self._note("meta", "state", "live", self.image.state)
        if self.image.lost:
            if journal_seq or self.image.kinds:
                self._note("meta", "seq", str(journal_seq), self.image.first.meta.get("seq"))
        elif self._waiting and not damaged:
            self._note("journal", "last seq", str(journal_seq), str(self.image.last.seq))
        elif self._behind is not None:
            self._note("meta", "seq", f"{self._behind} or more", str(self.image.last.seq))

    def _compare_names(self, expected: dict[str, View]) -> None:
        """At the first part: compare the names of keys and fields."""
        self._stray = self.image.kinds - expected.keys() - {META, JOURNAL, OPEN}
        for kind in sorted(self._stray):
            self._note("key", kind, None, "present")
        for kind, (fields, text) in expected.items():
            missing = fields.keys() - self.image.fields_of(kind)
            if key_of(kind).removed:
                self._missing[kind] = missing
                continue
            for name in missing:
                self._difference(kind, name, text(fields[name]), None)

    def _compare_missing(self, expected: dict[str, View]) -> None:
        """At the last part: report missing fields that existed at the first part and still should exist."""
        for kind, names in self._missing.items():
            view = expected.get(kind, _NOTHING)
            for name in names & view.fields.keys():
                self._difference(kind, name, view.text(view.fields[name]), None)

    def _compare_meta(self, state: PartitionState, part: Part) -> None:
        expected = meta_fields(state)
        for name in META_FOLDED:
            if part.meta.get(name) != expected.get(name):
                self._note(META, name, expected.get(name), part.meta.get(name))

    def _compare_fields(self, part: Part, expected: View) -> None:
        fields, text = expected
        for name, found in part.fields.items():
            value = text(fields[name]) if name in fields else None
            if value != found:
                self._difference(part.kind, name, value, found)

    def _difference(self, kind: str, name: str, journal: str | None, found: str | None) -> None:
        what, _, detail = kind.partition(":")
        if what == BALANCE and not name.endswith(CARRIED):
            self._note(what, f"{name} {detail}", _amount(journal, detail), _amount(found, detail))
        elif what == SEEN:
            self._note("dedupe", f"{name} (window {detail})", journal, found)
        else:
            self._note(what, name, journal, found)

    def _note(self, what: str, key: str, journal: str | None, found: str | None) -> None:
        self.mismatches_total += 1
        if len(self.mismatches) < MISMATCHES_MAX:
            self.mismatches.append(Mismatch(self.image.partition, what, key, journal, found))


def _amount(text: str | None, currency: str) -> str | None:
    """Minor units as a decimal amount; the text unchanged if it is not a number."""
    if text is None:
        return None
    try:
        return format_amount(int(text), check_currency(currency))
    except (ValueError, InvalidInput):
        return text
