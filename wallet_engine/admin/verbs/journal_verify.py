"""`wallet-admin journal verify`: compares the copies, or proves that one copy and its archive are complete."""

import asyncio
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.journals import check_journal, find_journal
from wallet_engine.admin.proof.journal_copies import CopiesCompared, compare_directories, compare_live
from wallet_engine.admin.session import Session, admin_command, plain_table
from wallet_engine.domain.errors import ConfigError, WrongUsage
from wallet_engine.domain.paths import path_text
from wallet_engine.journal.archive import archived_up_to
from wallet_engine.journal.restore import Restorer, restore_with
from wallet_engine.journal.segments import segment_file
from wallet_engine.journal.verify import verify_directory
from wallet_engine.telemetry.flags import RESTORE_COMMAND_HELP


@click.command()
@admin_command
@click.argument(
    "directories", nargs=-1, type=click.Path(path_type=Path, file_okay=False), metavar="[DIR DIR…]"
)
@click.option(
    "--archive",
    is_flag=True,
    help="Check one whole journal, from its first entry to its last, with archived segments from --restore-command.",
)
@click.option("--restore-command", metavar="COMMAND", help=RESTORE_COMMAND_HELP)
@click.pass_context
def verify(
    ctx: click.Context,
    session: Session,
    directories: tuple[Path, ...],
    archive: bool,
    restore_command: str | None,
) -> None:
    """Compare the journal copies, partition by partition, every entry byte for byte.

    It asks the live copies over the network, while payments go on, or reads two or more journal directories on this
    machine. Every frame that is read is checked against its hash.

    A copy with fewer entries is behind, which is no fault. A copy with another entry in the same place is different;
    the first such entry of each partition is listed with its segment file and offset.

    With --archive it checks one journal instead, that of DIR or of a live copy on this host. It reads archived
    segments from the archive, even if they are still on disk, and the rest from the disk. It checks each frame, seal
    and chain, and that every segment continues the one before it.

    \b
    EXIT STATUS
      0  the copies hold the same entries; with --archive: the journal is complete
      1  they do not, or one could not be read

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 journal verify
      wallet-admin journal verify /mnt/j1/journal /mnt/j2/journal --json
      wallet-admin journal verify --archive /mnt/j1/journal --restore-command 'cp /archive/%j/%f %p'
    """
    if archive:
        _prove(session, directories, restore_command)
        return
    restore_with(restore_command)
    if directories:
        if len(directories) < 2:
            raise click.UsageError("give two directories or more, or none for the live copies")
        comparison = compare_directories(check_journal(directory) for directory in directories)
    else:
        with session.directory() as directory:
            members, live = directory.members().copies, directory.journals()
        missing = [name for name in members if name not in live]
        if missing:
            raise ConfigError(
                f"journal copy {', '.join(missing)} is not running: start it, or give directories"
            )
        comparison = asyncio.run(compare_live([live[name] for name in members]))
    session.answer(_document(comparison), lambda console: _show(console, comparison))
    ctx.exit(0 if comparison.same else 1)


def _prove(session: Session, directories: tuple[Path, ...], restore_command: str | None) -> None:
    """Prove one journal with its archive. Raises `Damaged` or `NotRestored`."""
    if restore_command is None:
        raise WrongUsage("--archive reads the archive: give --restore-command")
    if len(directories) > 1:
        raise click.UsageError("give one directory with --archive: each copy has an archive of its own")
    if directories:
        source = check_journal(directories[0])
    else:
        with session.directory() as directory:
            source = find_journal(directory, None).directory
    restorer = Restorer(restore_command)
    archived = archived_up_to(source)

    def read_from(journal: Path, number: int) -> Path:
        return restorer.restore(journal, number) if number <= archived else segment_file(journal, number)

    with session.progress() as progress:
        task = progress.add_task("reading archive and disk", total=None)
        found = verify_directory(
            source,
            lambda _, done, total: progress.update(task, completed=done, total=total),
            read_from,
        )
    document = {
        "whole": True,
        "directory": path_text(source),
        "journal_id": found.journal_id,
        "segments": found.segments,
        "from_archive": archived,
        "entries": found.entries,
        "bytes": found.bytes,
        "running_hash": found.running_hash,
        "torn_bytes": found.torn_bytes,
    }
    session.answer(
        document,
        lambda console: console.print(
            f"ok: journal {found.journal_id} is whole: {found.entries:,} entries in {found.segments} segments, "
            f"{archived} of them out of the archive; running hash {found.running_hash}",
            style="bold",
            soft_wrap=True,
        ),
    )


def _document(comparison: CopiesCompared) -> dict[str, Any]:
    return {
        "same": comparison.same,
        "copies": [
            {"copy": copy, "entries": entries, "behind": comparison.behind[copy]}
            for copy, entries in comparison.entries.items()
        ],
        "differences": [
            {"copy": d.copy, "partition": d.partition, "seq": d.seq, "file": d.file, "offset": d.offset}
            for d in comparison.differences
        ],
    }


def _show(console: Console, comparison: CopiesCompared) -> None:
    table = plain_table("copy", "entries", "behind")
    for copy, entries in comparison.entries.items():
        table.add_row(
            copy, f"{entries:,}", f"{comparison.behind[copy]:,}" if comparison.behind[copy] else "-"
        )
    console.print(table)
    for d in comparison.differences:
        console.print(
            f"{d.copy}: partition {d.partition} has another entry {d.seq}, in {d.file} at offset {d.offset}",
            soft_wrap=True,
        )
    console.print(
        "ok: the copies hold the same" if comparison.same else "NOT OK: the copies differ", style="bold"
    )
