"""`wallet-admin journal verify`: do the copies hold the same?"""

import asyncio
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from wallet_engine.admin.journals import check_journal
from wallet_engine.admin.proof.journal_compare import Comparison, compare_directories, compare_live
from wallet_engine.admin.session import Session, admin_command
from wallet_engine.domain.errors import ConfigError


@click.command()
@admin_command
@click.argument(
    "directories", nargs=-1, type=click.Path(path_type=Path, file_okay=False), metavar="[DIR DIR…]"
)
@click.pass_context
def verify(ctx: click.Context, session: Session, directories: tuple[Path, ...]) -> None:
    """Compare the journal copies, partition by partition, byte for byte of every entry.

    Asks the live copies over the network, from wherever this runs, while payments go on; or reads the journal
    directories given, two or more, on this machine. Every frame that is read is checked against its hash.

    A copy that has fewer entries is behind, which is no fault; one that has another entry in the same place is
    different, and the first such entry of each partition is named with its segment file and offset.

    \b
    EXIT STATUS
      0  every copy holds the same, as far as it goes
      1  one does not, or could not be read

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 journal verify
      wallet-admin journal verify /mnt/j1/journal /mnt/j2/journal --json
    """
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


def _document(comparison: Comparison) -> dict[str, Any]:
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


def _show(console: Console, comparison: Comparison) -> None:
    table = Table("copy", "entries", "behind")
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
