"""`wallet-admin history migrate | verify | rebuild | detach | status`: the history store in PostgreSQL."""

import asyncio
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from wallet_engine.admin.journals import check_current, find_journal, journal_option
from wallet_engine.admin.proof.history import HistoryVerdict, compare, read_rows
from wallet_engine.admin.session import (
    Plan,
    Session,
    admin_command,
    changing_command,
    plain_console,
    plain_table,
)
from wallet_engine.domain.errors import ConfigError, WalletError, WrongUsage, text_of
from wallet_engine.domain.times import time_text
from wallet_engine.history.clearing import check_whole, clear_telling
from wallet_engine.history.database import (
    check_none_detached,
    check_version,
    connected,
    migrate,
    ms_of,
    version_of,
)
from wallet_engine.history.detaching import Detached, Month, detach, parse_month
from wallet_engine.history.sink import SINK
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.flags import VerbGroup, database_option

#: Seconds between two looks at a rebuild that is waited for.
_POLL_S: Final = 0.5


@click.group(cls=VerbGroup)
def history() -> None:
    """Manage the history: the queryable past in PostgreSQL, written by wallet-engine follow --to history.

    Its tables are in the schema wallet_history of the database that --database names.

    \b
    EXAMPLES
      export WALLET_DATABASE=postgresql://wallet@db:5432/wallet WALLET_DATABASE_PASSWORD_FILE=/run/secrets/db
      wallet-admin history migrate
      wallet-admin --zookeeper zk1:2181 history verify --json
      wallet-admin --zookeeper zk1:2181 history rebuild 3 17
      wallet-admin --zookeeper zk1:2181 history detach 2025-01
    """


def _needed(database: str | None) -> str:
    if database is None:
        raise WrongUsage("give --database postgresql://user@host:5432/name, or set WALLET_DATABASE")
    return database


@history.command("migrate")
@changing_command
@database_option
def migrate_(session: Session, database: str | None) -> None:
    """Bring the tables to the version of this program, and make the partitions of the next months. May be repeated.

    Tables of a newer program are refused and not changed.
    """
    url = _needed(database)

    async def look() -> int:
        async with connected(url, "wallet-admin") as connection:
            return await version_of(connection)

    async def change() -> tuple[int, int]:
        async with connected(url, "wallet-admin") as connection:
            return await migrate(connection)

    found = asyncio.run(look())
    what = f"bring the tables of the history from version {found} to that of this program"
    plan = Plan(what, {"version": found}, lambda console: console.print(what))
    if not session.agreed(plan):
        return
    before, now = asyncio.run(change())
    document = {"version_before": before, "version": now}
    session.answer(
        document, lambda console: console.print(f"the tables have version {now} (before: {before})")
    )


@history.command()
@admin_command
@database_option
@journal_option
def verify(session: Session, database: str | None, journal: Path | None) -> None:
    """Compare the history with the journal: every account's last posting, every count and every sum.

    The journal is read up to the position of the history; a partition of the journal that the history has never
    followed is a difference. If they differ, each difference is listed, and the exit status is 1.
    """
    url = _needed(database)
    with session.directory() as directory:
        source = find_journal(directory, journal)
        rows = asyncio.run(read_rows(url))
        check_current(directory, source)
    with session.progress() as progress:
        task = progress.add_task("folding the journal")
        verdict = compare(
            rows, source.directory, lambda done, total: progress.update(task, completed=done, total=total)
        )

    def show(console: Console) -> None:
        source.show_note(console)
        _show_verdict(console, verdict)

    session.answer(_verdict_document(verdict) | source.note(), show)
    if not verdict.ok:
        sys.exit(1)


def _verdict_document(verdict: HistoryVerdict) -> dict[str, Any]:
    return {
        "ok": verdict.ok,
        "accounts": verdict.accounts,
        "transfers": verdict.transfers,
        "behind_entries": verdict.behind,
        "left_out": list(verdict.left_out),
        "differences": list(verdict.differences),
    }


def _show_verdict(console: Console, verdict: HistoryVerdict) -> None:
    for line in verdict.differences:
        console.print(line, style="red", soft_wrap=True)
    word = "ok" if verdict.ok else f"{len(verdict.differences)} differences"
    console.print(f"{word}: {verdict.accounts} accounts, {verdict.transfers} transfers", style="bold")
    if verdict.behind:
        console.print(f"not compared: {verdict.behind:,} entries that the history does not have yet")
    if verdict.left_out:
        console.print(f"not compared, because it is detached: {', '.join(verdict.left_out)}", soft_wrap=True)


@history.command()
@changing_command
@database_option
@click.option(
    "--wait", is_flag=True, help="Show the progress, and return when the deleted rows are there again."
)
@click.argument("partitions", nargs=-1, type=click.IntRange(0), metavar="[PARTITION…]")
def rebuild(session: Session, database: str | None, wait: bool, partitions: tuple[int, ...]) -> None:
    """Rebuild the history of these partitions, or of all, from the journal.

    Their rows are deleted in one step. The followers of the history write them again, from the first entry on. The API
    keeps reading; until the followers have caught up, its answers cover less time. Ctrl-C during --wait ends only the
    waiting.

    It waits for transactions that are writing, and names them. A follower's that stands still for half a minute (its
    process was stopped, its machine is gone) is ended; another one that lasts for two minutes ends the rebuild, which
    then deletes nothing. After months were detached, only all partitions can be rebuilt: the months come back.
    """
    url, warn = _needed(database), _Warner()
    with session.directory() as directory:
        count = directory.config().partitions
        strange = [p for p in partitions if p >= count]
        if strange:
            raise ConfigError(f"there is no partition {strange[0]}: they are 0 to {count - 1}")
        chosen = sorted(set(partitions)) or list(range(count))
        named = ", ".join(map(str, partitions)) or "all partitions"
        what = f"delete the history of {named}, and have it rebuilt"
        plan = Plan(what, {"partitions": chosen}, lambda console: console.print(what), destroys=True)
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            directory.followers.note(SINK, dict.fromkeys(chosen, 0))
            before = asyncio.run(_clear(url, chosen, warn))
            # A follower may have noted its old position meanwhile: the journal must not be pruned up to there.
            directory.followers.note(SINK, dict.fromkeys(chosen, 0))
        hindrance = _Hindrance(directory, warn)
        hindrance.tell()
        said = "it is being rebuilt"
        if wait:
            with session.progress() as progress:
                task = progress.add_task("entries", total=sum(before.values()))

                def told(done: int) -> None:
                    progress.update(task, completed=done)
                    hindrance.tell()

                asyncio.run(_wait_made(url, before, told))
            said = "it is rebuilt"
    session.answer({"partitions": chosen}, lambda console: console.print(f"{named}: {said}"))


class _Warner:
    """Says something on standard error, once until it changes."""

    def __init__(self) -> None:
        self._said = ""
        self._console = plain_console(stderr=True)

    def __repr__(self) -> str:
        return f"<_Warner {self._said}>"

    def __call__(self, found: str, otherwise: str) -> None:
        """`otherwise`: what to say when nothing is found any more."""
        if found != self._said:
            self._console.print(f"! {found}" if found else otherwise, soft_wrap=True)
            self._said = found


class _Hindrance:
    """Says what keeps the followers of the history from writing, whenever that changes."""

    def __init__(self, directory: Directory, warn: _Warner) -> None:
        self._directory = directory
        self._warn = warn

    def __repr__(self) -> str:
        return f"<_Hindrance {self._warn!r}>"

    def tell(self) -> None:
        self._warn(self._look(), "the history is being written again")

    def _look(self) -> str:
        """Empty when nothing is known to keep them from it."""
        try:
            members = self._directory.following.sink(SINK).members
        except WalletError as error:
            return f"who follows for the history is not known: {text_of(error)}"
        if not members:
            return "nobody follows for the history, so nothing writes it: start wallet-engine follow --to history"
        return "; ".join(trouble.what for info in members.values() for trouble in info.troubles)


async def _clear(url: str, partitions: Collection[int], warn: _Warner) -> dict[int, int]:
    """Delete the rows of these partitions. Returns partition -> the seq that its history had reached."""
    async with connected(url, "wallet-admin history rebuild") as connection:
        await check_version(connection)
        await check_none_detached(connection)
        await check_whole(connection, partitions)
        before = await _seqs(connection, partitions)
        await clear_telling(connection, partitions, url, lambda said: warn(said, ""))
        return before


async def _wait_made(url: str, before: Mapping[int, int], told: Callable[[int], object]) -> None:
    """Wait until each partition's history reaches its former seq again."""
    async with connected(url, "wallet-admin history rebuild") as connection:
        while True:
            now = await _seqs(connection, before)
            told(sum(min(now[p], seq) for p, seq in before.items()))
            if all(now[p] >= seq for p, seq in before.items()):
                return
            await asyncio.sleep(_POLL_S)


async def _seqs(connection: Any, partitions: Collection[int]) -> dict[int, int]:
    """Partition -> seq that its history has reached, without partitions that nobody has written yet."""
    rows = await connection.fetch(
        "SELECT partition, seq FROM positions WHERE sink = $1 AND partition = ANY($2)",
        *(SINK, list(partitions)),
    )
    return {row["partition"]: row["seq"] for row in rows}


@history.command("detach")
@changing_command
@database_option
@click.argument("month")
def detach_(session: Session, database: str | None, month: str) -> None:
    """Detach the tables of an old MONTH, such as 2025-01, and carry its balances into the next one.

    The oldest month goes first. The detached tables stay in the schema until you dump and drop them. The month must be
    over for a day in all partitions of the history, and its transfers must have ended. May be repeated: of a month that
    was detached by hand, and still stands there, it carries the balances.

    It waits for readers of the tables, and names them, for up to 15 minutes; then nothing is changed.
    """
    url, chosen = _needed(database), parse_month(month)
    with session.directory() as directory:
        count = directory.config().partitions
        what = f"detach {chosen} from the history, and carry its balances into the next month"
        plan = Plan(what, {"month": str(chosen)}, lambda console: console.print(what))
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            done = asyncio.run(_detach(url, chosen, count))
    document = {
        "month": str(chosen),
        "carried": done.carried,
        "detached": done.detached,
        "standing": done.standing,
    }
    session.answer(document, lambda console: _show_detached(console, chosen, done))


async def _detach(url: str, month: Month, partitions: int) -> Detached:
    console = plain_console(stderr=True)
    async with connected(url, "wallet-admin history detach") as connection:
        return await detach(connection, month, partitions, lambda said: console.print(said, soft_wrap=True))


def _show_detached(console: Console, month: Month, done: Detached) -> None:
    said = f"detached {', '.join(done.detached)}" if done.detached else "it was detached before"
    console.print(f"{month}: {said}; {done.carried:,} balances were carried", soft_wrap=True)
    console.print(f"dump them, and drop them: {', '.join(done.standing)}", soft_wrap=True)


@history.command()
@admin_command
@database_option
def status(session: Session, database: str | None) -> None:
    """Show the history's position in each partition, and the processes that write it."""
    url = _needed(database)

    async def look() -> tuple[int, list[Any]]:
        async with connected(url, "wallet-admin") as connection:
            await check_version(connection)
            rows = await connection.fetch("SELECT * FROM positions WHERE sink = $1 ORDER BY partition", SINK)
            return await version_of(connection), rows

    version, rows = asyncio.run(look())
    with session.directory() as directory:
        members = directory.following.sink(SINK).members
        partitions = directory.config().partitions
    document = {
        "version": version,
        "followers": sorted(members),
        "troubles": [trouble.what for info in members.values() for trouble in info.troubles],
        "partitions": [
            {"partition": row["partition"], "seq": row["seq"], "at": time_text(ms_of(row["at"]))}
            for row in rows
        ],
        "unfollowed": sorted(set(range(partitions)).difference(row["partition"] for row in rows)),
    }
    session.answer(document, lambda console: _show_status(console, document))


def _show_status(console: Console, document: dict[str, Any]) -> None:
    followers = ", ".join(document["followers"]) or "nobody"
    console.print(f"version {document['version']}, followed for by {followers}", style="bold")
    for trouble in document["troubles"]:
        console.print(trouble, style="red", soft_wrap=True)
    if document["unfollowed"]:
        named = ", ".join(map(str, document["unfollowed"]))
        console.print(f"never followed: partitions {named}", style="red", soft_wrap=True)
    table = plain_table("partition", "seq", "complete until", box=None)
    for row in document["partitions"]:
        table.add_row(str(row["partition"]), str(row["seq"]), row["at"])
    console.print(table)
