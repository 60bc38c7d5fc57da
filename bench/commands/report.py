"""`bench report`: everything, written to a folder with plots."""

import shlex
import sys
from pathlib import Path
from typing import Final

import click

from bench.commands import session
from bench.commands.session import Session
from bench.matrix import Extent, Matrix
from bench.targets import HEADINGS
from bench.text import table

#: Where the committed report is.
FOLDER: Final = Path(__file__).resolve().parent.parent / "report"


@click.command()
@click.option("--quick", is_flag=True, help="Every row, but short and once, and a million accounts at most.")
@session.runs_option(3)
@session.seconds_option(5.0)
@session.accounts_option
@click.option(
    "--many-accounts",
    type=click.IntRange(1_000, 10**8),
    default=10_000_000,
    show_default=True,
    help="Accounts of the row that shows what more of them cost.",
)
@click.option(
    "--tigerbeetle",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TigerBeetle's server binary.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=FOLDER,
    help="Folder of the report.  [default: bench/report]",
)
@session.folder_option
def report(
    quick: bool,
    runs: int,
    seconds: float,
    accounts: int,
    many_accounts: int,
    tigerbeetle: Path | None,
    out: Path,
    folder: Path | None,
) -> None:
    """The table of targets, plots, workloads, peers, scale and memory, in about 20 minutes (--quick: 6)."""
    from bench.written import write_report  # which loads matplotlib

    extent = Extent(accounts=accounts, accounts_many=many_accounts, seconds=seconds, runs=runs)
    measured = Matrix(Session(folder), extent.quick() if quick else extent, folder, tigerbeetle).measure()
    measured["command"] = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    write_report(measured, out)
    click.echo(table(HEADINGS, [target["cells"] for target in measured["targets"]]))
    click.echo(f"written to {out}")
