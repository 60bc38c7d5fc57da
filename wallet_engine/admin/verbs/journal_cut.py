"""`wallet-admin journal cut`: removes the forged end of a partition's chain from a journal copy that does not run."""

from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from wallet_engine.admin.journals import check_journal
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.admin.verbs.rebuild import meta_of
from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import RULES, EntryHeader, parse_header
from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.paths import path_text
from wallet_engine.journal.reader import read
from wallet_engine.journal.segments import read_segment_header, segment_numbers
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.routing.directory import Directory

#: The operation of an entry without effect.
_NOTHING: Final = pack([("n", "cut", "-", "-", 0, "-", "", "")]).columns


@click.command()
@changing_command
@click.argument("journal", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="DIR")
@click.argument("partition", type=click.IntRange(0))
@click.argument("seq", type=click.IntRange(2))
def cut(session: Session, journal: Path, partition: int, seq: int) -> None:
    """Cut entry SEQ of PARTITION, and later entries of that partition, out of the journal in DIR.

    For a forged or wrong entry that cannot be replayed, so that its partition cannot be served; RUNBOOKS.md says when
    to use it. Answers that callers got for these entries are not true afterwards. The entries are kept in DIR, in a
    file orphaned-…, which names the callers to inform.

    Entries that change nothing take their places: a receiver may remember a credit by the number of its debit's entry,
    and would take that of a later debit with this number for a repeat.

    Stop every journal copy first, and cut all of them in the same way before you start any. Refused when Redis has
    the entry: then it was replayed, and can be accepted instead (rebuild --accept). Run it again if it was interrupted.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 journal cut /var/lib/wallet/journal 12 1234 --dry-run
      wallet-admin --zookeeper zk1:2181 journal cut /var/lib/wallet/journal 12 1234 --yes
    """
    check_journal(journal)
    with session.directory() as directory:
        _check_stopped(directory, partition, seq)
        last = last_to_cut(journal, partition, seq)
        if not last:
            raise ConfigError(f"{journal} has no entry {seq} of partition {partition}")
        document: dict[str, Any] = {
            "journal": path_text(journal),
            "partition": partition,
            "first_seq": seq,
            "last_seq": last,
        }
        what = f"take entries {seq} to {last} of partition {partition} out of {journal}"
        plan = Plan(
            what,
            document,
            lambda console: _show(console, what, "kept beside it, and served no more"),
            destroys=True,
        )
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            kept = cut_out(journal, partition, seq)
    document["kept"] = path_text(kept)
    session.answer(document, lambda console: _show(console, what, f"done: they are in {kept}"))


def _check_stopped(directory: Directory, partition: int, seq: int) -> None:
    running = directory.journal_ids()
    if running:
        raise ConfigError(f"journal copies {', '.join(running)} run: stop all, and cut each alike")
    if partition >= len(directory.partition_map().partitions):
        raise ConfigError(f"there is no partition {partition}")
    has = int(meta_of(directory, partition)["seq"] or 0)
    if has >= seq:
        raise ConfigError(
            f"Redis has entry {has} of partition {partition}: entry {seq} is in what it serves, and cannot be cut"
        )


def _headers(journal: Path, partition: int, seq: int) -> list[EntryHeader]:
    """Those of the partition's entries from `seq` on."""
    records = read(journal, partitions={partition}, after={partition: seq - 1})
    return [parse_header(record.payload) for record in records]


def _kept(journal: Path, partition: int, seq: int) -> list[Path]:
    """The files with the partition's entries from `seq` on that were taken out, the newest last."""
    found = journal.glob(f"orphaned-p{partition}-{seq}-*")
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def last_to_cut(journal: Path, partition: int, seq: int) -> int:
    """The seq of the last entry that is cut, or was by a run that was interrupted; 0 if there is none."""
    taken_out = [int(path.name.split("-")[3]) for path in _kept(journal, partition, seq)]
    return max([*taken_out, *(header.seq for header in _headers(journal, partition, seq))], default=0)


def cut_out(journal: Path, partition: int, seq: int) -> Path:
    """Put entries without effect, the same in every copy, in the places of these. Safe to repeat.

    Returns the file with the entries that were taken out.
    """
    last = last_to_cut(journal, partition, seq)
    before, *there = _headers(journal, partition, seq - 1)
    writer = JournalWriter(journal, read_segment_header(journal, segment_numbers(journal)[-1]).journal_id)
    try:
        places = [before]
        while places[-1].seq < last:
            places.append(_after(places[-1]))
        if there != places[1 : len(there) + 1]:
            writer.begin_rewrite()
            writer.rewrite({partition: seq - 1})
            there = []
        for header in places[len(there) + 1 :]:
            payload = b"%b\n%b" % (header.text().encode(), _NOTHING)
            writer.append(partition, payload, header, bound=False)
        writer.sync()
    finally:
        writer.close()
    return _kept(journal, partition, seq)[-1]


def _after(header: EntryHeader) -> EntryHeader:
    """The header of the entry without effect that follows."""
    nonce = blake2b(f"cut {header.nonce} {header.seq}".encode(), digest_size=8).hexdigest()
    place = header._replace(seq=header.seq + 1, prev_nonce=header.nonce, nonce=nonce)
    return place._replace(outcomes=Outcome.APPLIED.value, rules=RULES)


def _show(console: Console, what: str, so: str) -> None:
    console.print(f"{what}: {so}", soft_wrap=True)
