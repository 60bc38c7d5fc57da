"""`wallet-admin balance`: a balance now, or at any past moment."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.journals import (
    JournalSource,
    check_current,
    find_journal,
    journal_option,
    receipted_seqs,
)
from wallet_engine.admin.proof.past_balance import (
    PastBalance,
    check_moment,
    figures,
    parse_at,
    past_balance,
)
from wallet_engine.admin.session import Session, admin_command
from wallet_engine.domain.errors import InvalidInput, WrongUsage
from wallet_engine.domain.ids import check_account_id
from wallet_engine.domain.money import check_currency, format_amount
from wallet_engine.domain.times import time_text


@click.command()
@admin_command
@click.argument("account")
@click.argument("currency")
@click.option("--at", metavar="SEQ|TIME", help="The past moment.  [default: now]")
@journal_option
def balance(session: Session, account: str, currency: str, at: str | None, journal: Path | None) -> None:
    """Show the balance of ACCOUNT in CURRENCY, now or at any past moment.

    The answer is computed from the journal alone, up to that moment. Redis is not needed.

    --at takes a sequence number of the account's partition (digits only; the balance over HTTP shows it), or a time
    in RFC 3339 such as 2026-11-21T10:00:00Z, 2026-11-21T11:00+01:00 or 2026-11-21. A time without an offset is UTC;
    the answer shows the time that was used. Entries of exactly that time count. Without --at it is the newest durable
    balance. A future time is refused, and so is a time after the end of a journal that no process writes any more.

    A system account (@bank, @fees, @transit) is in every partition. Its balance is the sum over all partitions, so
    --at takes only a time.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 balance alice USD
      wallet-admin balance alice USD --at 120
      wallet-admin balance @bank EUR --at 2026-11-21T10:00:00Z --json
    """
    try:
        check_account_id(account, "ACCOUNT")
        check_currency(currency)
    except InvalidInput as error:
        raise WrongUsage(error.detail) from None
    moment = None if at is None else parse_at(at)
    with session.directory() as directory:
        partitions = directory.config().partitions
        source = find_journal(directory, journal)
        check_current(directory, source)
        durable = receipted_seqs(source.info) if moment is None and source.info is not None else None
        check_moment(source.directory, moment, live=source.info is not None)
        found = past_balance(source.directory, partitions, account, currency, moment, durable)
    session.answer(_document(found) | source.note(), lambda console: _show(console, found, source))


def _document(found: PastBalance) -> dict[str, Any]:
    return {
        "account_id": found.account,
        "currency": found.currency,
        **figures(found.balance_minor, found.held_minor, found.pending_minor, found.currency),
        "partition": found.partition,
        "seq": found.seq,
        "time": time_text(found.time_ms),
    }


def _show(console: Console, found: PastBalance, source: JournalSource) -> None:
    amount = format_amount(found.balance_minor, found.currency)
    where = "all partitions" if found.partition is None else f"partition {found.partition}, seq {found.seq}"
    held = format_amount(found.held_minor, found.currency)
    aside = f", {held} of it held" if found.held_minor else ""
    console.print(f"{found.account}  {amount} {found.currency}{aside}", style="bold")
    console.print(f"{where}, {time_text(found.time_ms)}")
    source.show_note(console)
