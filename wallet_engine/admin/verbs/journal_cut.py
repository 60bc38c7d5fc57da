"""`wallet-admin journal cut`: removes the forged end of a partition's chain from a journal copy that does not run."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.journals import check_journal
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.admin.verbs.rebuild import meta_of
from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.paths import path_text
from wallet_engine.journal.reader import read
from wallet_engine.journal.segments import read_segment_header, segment_numbers
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.routing.directory import Directory


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

    Stop every journal copy first, and cut all of them in the same way before you start any. Refused when Redis has
    the entry: then it was replayed, and can be accepted instead (rebuild --accept).

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 journal cut /var/lib/wallet/journal 12 1234 --dry-run
      wallet-admin --zookeeper zk1:2181 journal cut /var/lib/wallet/journal 12 1234 --yes
    """
    check_journal(journal)
    with session.directory() as directory:
        _check_stopped(directory, partition, seq)
        seqs = [
            parse_header(record.payload).seq
            for record in read(journal, partitions={partition}, after={partition: seq - 1})
        ]
        if not seqs:
            raise ConfigError(f"{journal} has no entry {seq} of partition {partition}")
        document: dict[str, Any] = {
            "journal": path_text(journal),
            "partition": partition,
            "first_seq": seqs[0],
            "last_seq": seqs[-1],
        }
        what = f"take entries {seqs[0]} to {seqs[-1]} of partition {partition} out of {journal}"
        plan = Plan(
            what,
            document,
            lambda console: _show(console, what, "kept beside it, and served no more"),
            destroys=True,
        )
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            kept = _cut(journal, partition, seq)
    document["kept"] = path_text(kept)
    session.answer(document, lambda console: _show(console, what, f"done: they are in {kept}"))


def _check_stopped(directory: Directory, partition: int, seq: int) -> None:
    running = sorted(directory.journals())
    if running:
        raise ConfigError(f"journal copies {', '.join(running)} run: stop all, and cut each alike")
    if partition >= len(directory.partition_map().partitions):
        raise ConfigError(f"there is no partition {partition}")
    has = int(meta_of(directory, partition)["seq"] or 0)
    if has >= seq:
        raise ConfigError(
            f"Redis has entry {has} of partition {partition}: entry {seq} is in what it serves, and cannot be cut"
        )


def _cut(journal: Path, partition: int, seq: int) -> Path:
    journal_id = read_segment_header(journal, segment_numbers(journal)[-1]).journal_id
    writer = JournalWriter(journal, journal_id)
    try:
        writer.begin_rewrite()
        return writer.rewrite({partition: seq - 1})[partition]
    finally:
        writer.close()


def _show(console: Console, what: str, so: str) -> None:
    console.print(f"{what}: {so}", soft_wrap=True)
