"""A balance at a past sequence number or time, folded from the journal up to there."""

import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from wallet_engine.admin.proof.fold import JournalFold
from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.errors import ConfigError, Corruption, WrongUsage
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.times import time_text
from wallet_engine.journal.reader import index_of_segment, read
from wallet_engine.journal.segments import segment_numbers
from wallet_engine.routing.slots import partition_of

_seq_match = re.compile(r"[0-9]{1,16}\Z").match
_instant_match = re.compile(
    r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d\d:\d\d)?)?\Z", re.ASCII
).match

#: How long entries of a moment may take to reach the disk.
SETTLED_MS: Final = 1_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AtSeq:
    """The state after the entry with this sequence number."""

    seq: int


@dataclass(frozen=True, slots=True)
class AtTime:
    """The state after all entries up to this time (Unix milliseconds)."""

    time_ms: int


@dataclass(frozen=True, slots=True)
class PastBalance:
    """`partition` and `seq` are None for a system account, which is in every partition.

    The balance is the sum of the available and the held amount.
    """

    account: str
    currency: str
    balance_minor: int
    partition: int | None
    seq: int | None
    #: The time asked for; without one, that of the last entry that counts.
    time_ms: int
    held_minor: int = 0
    pending_minor: int = 0


def parse_at(text: str, flag: str = "--at") -> AtSeq | AtTime:
    """A sequence number (digits) or a time (RFC 3339; UTC without an offset). Raises `WrongUsage`."""
    if _seq_match(text):
        return AtSeq(int(text))
    try:
        if not _instant_match(text):
            raise ValueError(text)
        instant = datetime.fromisoformat(text.upper())
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        since = instant.astimezone(UTC) - _EPOCH  # raises for times that have no date in UTC
    except (ValueError, OverflowError):
        raise WrongUsage(
            f"{flag} {text!r} is neither a sequence number (120) nor a time (2026-11-21T10:00:00Z)"
        ) from None
    return AtTime(since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000)


def figures(balance_minor: int, held_minor: int, pending_minor: int, currency: str) -> dict[str, str]:
    """The amounts in every document that shows a balance; the same as in the API."""
    minor = {
        "balance": balance_minor,
        "available": balance_minor - held_minor,
        "held": held_minor,
        "pending": pending_minor,
    }
    return {name: format_amount(value, currency) for name, value in minor.items()}


def check_moment(journal: Path, at: AtSeq | AtTime | None, *, live: bool) -> None:
    """Check that the journal has everything up to that moment. If it soon will, wait; else raise `ConfigError`.

    `live`: a process writes the journal. Raises `Damaged`.
    """
    if at is None:
        return
    if isinstance(at, AtSeq):
        if at.seq == 0:
            raise WrongUsage("there is nothing at seq 0: the first entry of a partition has 1")
        return
    now_ms = time.time_ns() // 1_000_000
    if live and at.time_ms <= now_ms:
        time.sleep(max(0, at.time_ms + SETTLED_MS - now_ms) / 1000)
        return
    newest_ms = newest_entry_ms(journal)
    if at.time_ms <= newest_ms:
        return
    when = time_text(at.time_ms)
    if live:
        raise ConfigError(
            f"{when} is in the future, it is {time_text(now_ms)}: leave out --at for the present balance"
        )
    raise ConfigError(
        f"{journal} ends at {time_text(newest_ms)} and no process writes it, so it may lack entries before {when}: "
        f"leave out --at for its end, or give --journal the directory of a live copy"
    )


def newest_entry_ms(journal: Path) -> int:
    """Time of the newest entry of any partition; 0 without one. Reads only the last segment. Raises `Damaged`."""
    newest_ms, after = 0, {}
    for number in segment_numbers(journal)[:-1]:
        index = index_of_segment(journal, number)
        for partition, span in {} if index is None else index.partitions.items():
            newest_ms, after[partition] = max(newest_ms, span.last_time_ms), span.last_seq
    for record in read(journal, after=after, verify=False):
        newest_ms = max(newest_ms, parse_header(record.payload).time_ms)
    return newest_ms


def first_entry_text(journal: Path, partitions: Collection[int]) -> str:
    """A sentence about when the first entry of these partitions was written."""
    for record in read(journal, partitions=partitions, verify=False):
        return f"the first entry is of {time_text(parse_header(record.payload).time_ms)}"
    return "there is no entry yet"


def past_balance(
    journal: Path,
    partitions: int,
    account: str,
    currency: str,
    at: AtSeq | AtTime | None,
    durable: dict[int, int] | None = None,
) -> PastBalance:
    """The balance according to the journal; without `at`, at its end.

    `durable` (partition -> seq): where that end is; None for all entries that can be read. Raises `ConfigError` when
    the account or the sequence number did not exist, `Corruption` when the journal is damaged.
    """
    if is_system(account):
        if isinstance(at, AtSeq):
            raise WrongUsage(
                f"{account} is a system account, part of every partition: it has no sequence "
                f"number, give a time to --at"
            )
        return _system_balance(journal, partitions, account, currency, at, durable)
    partition = partition_of(account, partitions)
    fold = JournalFold(journal)
    fold.run(
        partitions={partition},
        end=_end(partition, at, durable),
        until_ms=at.time_ms if isinstance(at, AtTime) else None,
    )
    if isinstance(at, AtSeq) and fold.sound and fold.seq(partition) < at.seq:
        raise ConfigError(
            f"seq {at.seq} is not in the journal: partition {partition} ({account}) ends at seq "
            f"{fold.seq(partition)}"
        )
    _check(fold)
    state = fold.states.get(partition)
    minor = None if state is None else state.balance(account, currency)
    if state is None or minor is None:
        since = f": {first_entry_text(journal, {partition})}" if state is None or not state.seq else ""
        raise ConfigError(_unknown(account, currency, partition, at) + since)
    time_ms = at.time_ms if isinstance(at, AtTime) else state.clock
    held, pending = (books.get(currency, {}).get(account, 0) for books in (state.held, state.pending))
    return PastBalance(account, currency, minor + held, partition, state.seq, time_ms, held, pending)


def _system_balance(
    journal: Path,
    partitions: int,
    account: str,
    currency: str,
    at: AtTime | None,
    durable: dict[int, int] | None,
) -> PastBalance:
    fold = JournalFold(journal)
    end = None if durable is None or at is not None else {p: durable.get(p, 0) for p in range(partitions)}
    fold.run(end=end, until_ms=None if at is None else at.time_ms)
    _check(fold)
    states = fold.states.values()
    total = sum(state.balances.get(currency, {}).get(account, 0) for state in states)
    if not any(account in state.balances.get(currency, {}) for state in states):
        raise ConfigError(f"no {currency} ever moved on {account}{_when(at)}")
    newest_ms = max(state.clock for state in states)
    return PastBalance(account, currency, total, None, None, newest_ms if at is None else at.time_ms)


def _end(partition: int, at: AtSeq | AtTime | None, durable: dict[int, int] | None) -> dict[int, int] | None:
    if isinstance(at, AtSeq):
        return {partition: at.seq}
    if at is None and durable is not None:
        return {partition: durable.get(partition, 0)}
    return None


def _check(fold: JournalFold) -> None:
    """Raises `Corruption` for an inconsistent journal: a balance from it could be wrong."""
    if not fold.sound:
        why = fold.damage or next(iter(fold.broken.values()))
        raise Corruption(f"the journal is damaged, see wallet-admin verify --offline: {why}")


def _unknown(account: str, currency: str, partition: int, at: AtSeq | AtTime | None) -> str:
    return f"{account} has no {currency} account in partition {partition}{_when(at)}"


def _when(at: AtSeq | AtTime | None) -> str:
    if at is None:
        return ""
    return f" at seq {at.seq}" if isinstance(at, AtSeq) else f" at {time_text(at.time_ms)}"
