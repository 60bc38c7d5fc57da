"""Copies one partition: most of it while it serves, the rest while it is frozen.

Everything is read from the source in bounded pieces, while it changes. The partition's own stream tells the changes:
each entry names the fields it may have changed (`touched.py`), and those are read again. So at any moment each field
on the target is equal to the source's, or is in `_dirty`. A freeze only has to copy `_dirty`.

That both sides are equal is checked by comparison, field by field: all fields while the partition serves (`verify`),
and in the freeze those changed since (`finish`). Two digests are kept: of the values read from the source, and of the
values read back from the target. A digest is the sum of a hash of each field with its value. A sum, because a changed
field then costs one subtraction and one addition, however many fields there are.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from wallet_engine.admin.moving.sides import Side, Source, Target
from wallet_engine.admin.moving.touched import Field, touched_fields
from wallet_engine.admin.moving.wire import Command, Setback
from wallet_engine.domain.entry import parse_entry
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.key_names import JOURNAL
from wallet_engine.redis_store.layout import (
    fields_command,
    key_of,
    read_in_pieces,
    remove_command,
    scan_command,
    size_command,
    write_words,
)
from wallet_engine.redis_store.open_members import OpenMembers
from wallet_engine.redis_store.stream import first_seq, stream_entries

#: Fields read or written by one command; that takes half a millisecond of either node.
FIELDS_PER_CALL: Final = 500
#: Entries fetched from the stream at a time; one holds up to 400 operations.
ENTRIES_PER_CALL: Final = 32
#: Dirty fields that a freeze may still have to copy: one command per hash.
DIRTY_MAX: Final = 400
#: Dirty fields at which the copy gives up: it cannot keep up.
DIRTY_FIELDS_MAX: Final = 2_000_000
CATCH_UP_ROUNDS_MAX: Final = 50

_MODULUS: Final = 1 << 128


T = TypeVar("T")


class Copy:
    """One attempt to copy one partition. Any failure ends it; the next attempt starts from nothing.

    `progress(fields)` is called as fields are copied and compared.
    """

    def __init__(self, source: Source, target: Target, progress: Callable[[int], object]) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        meta = source.meta()
        if meta.get("state") != "live" or meta.get("epoch") != str(source.epoch):
            raise Setback(f"the partition is not live under epoch {source.epoch}")
        self._window = meta["window"]
        #: The newest entry whose fields are copied or dirty. The scans see the changes of entries up to the first.
        self.seq = self._begun_seq = int(meta["seq"])
        self._stream_id = b"-"
        #: Seqs of the entries in the target's stream.
        self._streamed: list[int] = []
        self._dirty: set[Field] = set()
        self._verified = False
        #: Fields that differed when all were compared -> hash of the source's value.
        self._differing: dict[Field, int] = {}
        self._digests = [0, 0]

    def __repr__(self) -> str:
        return f"<Copy {self._source!r} -> {self._target!r} seq={self.seq} dirty={len(self._dirty)}>"

    @property
    def digests(self) -> tuple[str, str]:
        """Digests of all fields: as read from the source, and as read back from the target."""
        source, target = (digest % _MODULUS for digest in self._digests)
        return f"{source:032x}", f"{target:032x}"

    def copy(self) -> None:
        """Copy everything, while the source changes."""
        for kind in self._hashes():
            for pairs in self._scan(kind):
                self._target.write([self._written(kind, pairs)])
                self._progress(len(pairs) // 2)
                self.follow()
        self.catch_up()

    def verify(self) -> None:
        """Compare every field of both sides, while the source changes and the target does not."""
        self._verified = True
        for kind in self._hashes():
            for pairs in self._scan(kind):
                names, values = pairs[::2], pairs[1::2]
                [found] = self._target.read((fields_command(kind.decode()), self._target.key(kind), *names))
                for name, value, copied in zip(names, values, found, strict=True):
                    self._compare_field((kind, name), value, copied)
                self._progress(len(names))
                self.follow()
        self.follow()
        self._explain(self._differing)
        self.catch_up()

    def _compare_field(self, field: Field, value: bytes, copied: bytes | None) -> None:
        """A scan may return a field twice, with another value the second time; the target still has the first."""
        hashed, before = _hash(*field, value), self._differing.pop(field, None)
        if before is not None:
            self._digests[0] += hashed - before
        else:
            self._digests[0] += hashed
            self._digests[1] += hashed if copied == value else _hash(*field, copied)
        if copied != value:
            self._differing[field] = hashed

    def follow(self) -> None:
        """Read the rest of the stream: copy its entries, and note the fields they may have changed."""
        while True:
            start = b"-" if self._stream_id == b"-" else b"(" + self._stream_id
            words = ("XRANGE", self._source.keys.journal, start, "+", "COUNT", ENTRIES_PER_CALL)
            found = stream_entries(self._source.wire.call(*words))
            for entry in found:
                self._take(entry.seq, entry.payload)
            if found:
                key = self._target.keys.journal
                self._target.write([("XADD", key, f"{entry.seq}-0", *entry.fields) for entry in found])
                self._stream_id = b"%d-0" % found[-1].seq
                self._streamed += (entry.seq for entry in found)
            if len(self._dirty) > DIRTY_FIELDS_MAX:
                raise Setback(
                    "the partition changes faster than it is copied: move it when there is less load"
                )
            if len(found) < ENTRIES_PER_CALL:
                return

    def catch_up(self) -> None:
        """Copy the dirty fields until few are left."""
        for _ in range(CATCH_UP_ROUNDS_MAX):
            self.follow()
            self._copy_dirty()
            self.follow()
            if len(self._dirty) <= DIRTY_MAX:
                self._trim()
                return
        raise Setback("the partition changes faster than it is copied: move it when there is less load")

    def finish(self, seq: int) -> None:
        """The partition is frozen at `seq`: copy the rest, and compare.

        Raises `Setback` when the copy missed something, `Corruption` when the sides differ although it did not.
        """
        self.follow()
        if self.seq != seq:
            raise Setback(f"the stream ends at {self.seq}, the partition at {seq}")
        self._copy_dirty()
        self._copy_open()
        self._trim()
        self._compare()

    def _hashes(self) -> list[bytes]:
        return _in_pieces(self._source.kinds())

    def _scan(self, kind: bytes) -> Iterator[list[bytes]]:
        """Fields and values, alternating, in pieces of about `FIELDS_PER_CALL` fields."""
        cursor = b"0"
        while True:
            cursor, pairs = self._source.wire.call(
                scan_command(kind.decode()), self._source.key(kind), cursor, "COUNT", FIELDS_PER_CALL
            )
            if pairs:
                yield pairs
            if cursor == b"0":
                return

    def _take(self, seq: int, payload: bytes) -> None:
        if seq <= self._begun_seq:
            return
        if seq != self.seq + 1:
            raise Setback(f"entry {self.seq + 1} has left the stream before it was read")
        entry = parse_entry(payload)
        if str(entry.header.window) != self._window:
            raise Setback("the window of transaction ids has changed")
        self._dirty |= touched_fields(entry)
        self.seq = seq

    def _copy_dirty(self) -> None:
        dirty, self._dirty = self._dirty, set()
        by_kind: dict[bytes, list[bytes]] = defaultdict(list)
        for kind, name in sorted(dirty):  # sorted, so that every run makes the same pieces and calls
            by_kind[kind].append(name)
        for kind, names in by_kind.items():
            for start in range(0, len(names), FIELDS_PER_CALL):
                self._copy_fields(kind, names[start : start + FIELDS_PER_CALL])

    def _copy_fields(self, kind: bytes, names: list[bytes]) -> None:
        key, reading = self._target.key(kind), fields_command(kind.decode())
        values = self._source.wire.call(reading, self._source.key(kind), *names)
        found = dict(zip(names, values, strict=True))
        if not key_of(kind.decode()).removed:  # such fields are never removed: a missing one never existed
            found = {name: value for name, value in found.items() if value is not None}
        if not found:
            return
        read: Command = (reading, key, *found)
        [before] = self._target.read(read) if self._verified else [[None] * len(found)]
        pairs = [word for pair in found.items() if pair[1] is not None for word in pair]
        gone = [name for name, value in found.items() if value is None]
        commands: list[Command] = [self._written(kind, pairs)] if pairs else []
        if gone:
            commands.append((remove_command(kind.decode()), key, *gone))
        [after] = self._target.write(commands, after=[read])
        for (name, value), old, new in zip(found.items(), before, after, strict=True):
            if new != value:
                raise Corruption(f"{key!r} {name!r} was written as {value!r} and read back as {new!r}")
            if self._verified:
                old_hash = _hash(kind, name, old)
                self._digests[0] += _hash(kind, name, value) - self._differing.pop((kind, name), old_hash)
                self._digests[1] += _hash(kind, name, new) - old_hash

    def _written(self, kind: bytes, pairs: list[bytes]) -> Command:
        command, words = write_words(kind.decode(), pairs)
        return (command, self._target.key(kind), *words)

    def _copy_open(self) -> None:
        key = self._source.keys.open
        there, here = _open(self._source).members, _open(self._target).members
        removed = sorted(here.keys() - there.keys())
        new = [member for member, score in there.items() if here.get(member) != score]
        for some in _pieces(removed):
            self._target.write([("ZREM", key, *some)])
        for some in _pieces(new):
            self._target.write([("ZADD", key, *(word for name in some for word in (there[name], name)))])
        if removed or new:
            here = _open(self._target).members
        if here != there:
            differing = sorted(here.items() ^ there.items())[:3]
            raise Corruption(f"{key} differs between target and source: {differing!r}")

    def _trim(self) -> None:
        """Remove entries from the target's stream that the source has trimmed: those not open (`lua/trim.lua`).

        The open ones must stay: the services that end them read their words in the stream.
        """
        [first] = self._source.read(("XRANGE", self._source.keys.journal, "-", "+", "COUNT", 1))
        if not first:
            return
        key, begin, trimmed = (
            self._target.keys.journal,
            first_seq(first),
            int(self._source.meta().get("trimmed", 0)),
        )
        # Read last: entries that are opened later come after `trimmed`.
        open_seqs = set(_open(self._source).seqs)
        left = [seq for seq in self._streamed if seq >= begin]
        kept = [seq for seq in left if seq >= trimmed or seq in open_seqs]
        self._target.write([("XTRIM", key, "MINID", begin)])
        gone = sorted(set(left).difference(kept))
        for some in _pieces(gone):
            self._target.write([("XDEL", key, *(f"{seq}-0" for seq in some))])
        self._streamed = kept

    def _compare(self) -> None:
        """Compare, in the freeze, all that `verify` and the copying of single fields did not."""
        self._explain(self._differing)
        # The streams are left out: an empty stream can exist on the source, and is not copied.
        kinds, copied = (side.kinds() - {JOURNAL.encode()} for side in (self._source, self._target))
        if kinds != copied:
            raise Corruption(f"keys differ: {sorted(kinds ^ copied)!r} are on one side only")
        commands = [(size_command(kind.decode()), self._source.key(kind)) for kind in _in_pieces(kinds)]
        if commands and self._source.read(*commands) != self._target.read(*commands):
            raise Corruption(f"the sizes of {sorted(kinds)!r} differ between the two sides")
        [entries] = self._target.read(("XLEN", self._target.keys.journal))
        if entries != len(self._streamed):
            raise Corruption(f"the target's stream has {entries} entries and not {len(self._streamed)}")
        source, target = self.digests
        if source != target:
            raise Corruption("the digests of the two sides differ")

    def _explain(self, differing: Iterable[Field]) -> None:
        """Raises `Corruption` for fields that differ and are not waiting to be copied again."""
        unexplained = [field for field in differing if field not in self._dirty]
        if unexplained:
            raise Corruption(
                f"{len(unexplained)} fields differ, and no entry has changed them: {unexplained[:3]!r}"
            )


def _in_pieces(kinds: Iterable[bytes]) -> list[bytes]:
    return sorted(kind for kind in kinds if read_in_pieces(kind.decode()))


def _hash(kind: bytes, name: bytes, value: bytes | None) -> int:
    """A field with its value as a number; 0 for an absent field."""
    if value is None:
        return 0
    text = b"%s\0%s\0%s" % (kind, name, value)
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")


def _open(side: Side) -> OpenMembers:
    found = OpenMembers(side.keys.open)
    while not found.done:
        found.take(side.read(found.command)[0])
    return found


def _pieces(names: Sequence[T]) -> Iterator[Sequence[T]]:
    """In pieces of `FIELDS_PER_CALL`."""
    for start in range(0, len(names), FIELDS_PER_CALL):
        yield names[start : start + FIELDS_PER_CALL]
