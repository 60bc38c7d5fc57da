"""`bench report`: measures everything, and writes a folder with tables and plots."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import Final

import click

from bench.commands import session
from bench.commands.session import Session, guard
from bench.machine import commit, machine
from bench.matrix import Extent, Matrix, check_many_accounts
from bench.parts import PARTIAL_FILE, Parts
from bench.past_table import check_history
from bench.result import Document
from bench.targets import HEADINGS
from bench.text import table

#: Folder of the committed report.
FOLDER: Final = Path(__file__).resolve().parent.parent / "report"


@click.command()
@click.option(
    "--quick",
    is_flag=True,
    help="Measure every row, but only once and shorter, with at most a million accounts.",
)
@session.runs_option(3)
@session.seconds_option(5.0)
@session.accounts_option
@click.option(
    "--many-accounts",
    type=click.IntRange(1_000, 10**8),
    default=10_000_000,
    show_default=True,
    help="Accounts of the row that shows the cost of many accounts.",
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
@click.option(
    "--many-accounts-from",
    "many_accounts_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take the row of many accounts from this JSON file instead of measuring it. Made by `bench run --workload "
    "across --accounts 10000000 --runs 3 --json FILE`.",
)
@click.option(
    "--history-from",
    "history_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Add the JSON file of `bench history --json FILE`, measured with the same commit on the same machine.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted report of the same commit and options.")
@session.folder_option
def report(
    quick: bool,
    runs: int,
    seconds: float,
    accounts: int,
    many_accounts: int,
    tigerbeetle: Path | None,
    out: Path,
    many_accounts_file: Path | None,
    history_file: Path | None,
    resume: bool,
    folder: Path | None,
) -> None:
    """Write the report: targets, small requests, plots, workloads, peers, scale and memory: 25 minutes (--quick: 7).

    Finished parts are kept in OUT/partial.json until the report is written.
    """
    from bench.written import write_report  # which loads matplotlib

    extent = Extent(accounts=accounts, accounts_many=many_accounts, seconds=seconds, runs=runs)
    extent = extent.quick() if quick else extent
    many: Document | None = None
    if many_accounts_file is not None:
        document = json.loads(many_accounts_file.read_text("utf-8"))
        many = guard(lambda: check_many_accounts(document, extent.accounts))
        extent = dataclasses.replace(extent, accounts_many=document["accounts"])
    past = None
    if history_file is not None:
        text = history_file.read_text("utf-8")
        past = guard(lambda: check_history(json.loads(text)))
    same = {"commit": commit(), "machine": machine(), "extent": dataclasses.asdict(extent)}
    parts = guard(lambda: Parts(out / PARTIAL_FILE, same, resume=resume))
    measured = Matrix(Session(folder), extent, parts, folder, tigerbeetle, many).measure()
    measured["command"] = shlex.join(["python", "-m", "bench", *map(_without_folder, sys.argv[1:])])
    if past is not None:
        measured["history"] = past
    write_report(measured, out)
    parts.done()
    click.echo(table(HEADINGS, [target["cells"] for target in measured["targets"]]))
    click.echo(f"written to {out}")


def _without_folder(word: str) -> str:
    """A path without its folders, which belong to this machine."""
    return Path(word).name if "/" in word else word
