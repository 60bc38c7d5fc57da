"""The image of a partition against the fold of its journal. Plain values in, plain values out."""

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

#: Mismatches kept in words, of one partition; the others are only counted.
MISMATCHES_MAX: Final = 100
#: An entry that is older than the image by more than this was there when the image was taken. Both times are of
#: the same Redis, whose clock may be corrected a little; what is younger is found by the next run.
BEHIND_MS_MIN: Final = 100

_NOTHING: Final = View({}, str)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference. None stands for what is not there."""

    #: None for what concerns the files of the journal.
    partition: int | None
    #: `transit`, `balance`, `flags`, `dedupe`, `open`, `meta`, `key`, `books` or `journal`
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
        #: Key whose fields are removed at times -> those of the first part that no part has.
        self._missing: dict[str, set[str]] = {}
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
            expected = views(state)
            if part is self.image.first:
                self._compare_names(expected)
            self._compare_meta(state, part)
            if part.kind not in self._stray:
                self._compare_fields(part, expected.get(part.kind, _NOTHING))
            if part is self.image.last:
                self._compare_missing(expected)

    def next_entry(self, header: EntryHeader) -> None:
        """Redis is behind when the journal has an entry which is older than the image and not in it."""
        if self._behind is None and header.time_ms < self.image.last.time_ms - BEHIND_MS_MIN:
            self._behind = header.seq

    def close(self, journal_seq: int, *, damaged: bool) -> None:
        """Note what could not be compared. `damaged`: said elsewhere why the journal ends at `journal_seq`."""
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
        """At the first part: which keys and which fields there must be."""
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
        """At the last part: fields that are removed at times, were there at first, and still should be."""
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
    """Minor units as people write them; as they stand when they are no number."""
    if text is None:
        return None
    try:
        return format_amount(int(text), check_currency(currency))
    except (ValueError, InvalidInput):
        return text
