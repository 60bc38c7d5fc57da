"""`wallet-admin transfer`: shows all that is known of one transfer, as a timeline."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.journals import find_journal, journal_option
from wallet_engine.admin.session import Session, admin_command
from wallet_engine.admin.survey import Survey, survey
from wallet_engine.admin.tracing.payers import payers_of
from wallet_engine.admin.tracing.telling import outcome_text
from wallet_engine.admin.tracing.timeline import Trace, trace
from wallet_engine.domain.errors import ConfigError, InvalidInput, WrongUsage
from wallet_engine.domain.ids import check_account_id, check_transaction_id, pack_transaction_id


@click.command()
@admin_command
@click.argument("transaction_id", metavar="ID")
@click.option(
    *("--from", "--from-account", "from_account"),
    metavar="ACCOUNT",
    help="The payer.  [default: search for the payer of a transfer with this id, which takes longer]",
)
@journal_option
def transfer(session: Session, transaction_id: str, from_account: str | None, journal: Path | None) -> None:
    """Show all that is known of the transfer ID of ACCOUNT, from Redis and the journal, as a timeline.

    Redis remembers a transfer for one to two retentions; the journal, read from a directory on this host, keeps it
    for ever. The first line has its state: paid, declined and why, pending and what it waits for, or unknown. A
    transfer across partitions has a debit, a credit (or the refund of a refused one) and a settle. Refunds of the
    transfer follow.

    Without --from it searches for the payer: in the memory of every partition in Redis, then in the whole journal.

    Without a journal on this host it shows only what Redis remembers. For a transfer that Redis has forgotten it reads
    the journal of two partitions.

    The exit status is 1 when the transfer is unknown.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 transfer 22222222-2222-4222-8222-222222222222 --from alice
      wallet-admin --zookeeper zk1:2181 transfer 22222222-2222-4222-8222-222222222222
      wallet-admin transfer 22222222-2222-4222-8222-222222222222 --from @bank --journal /backup/journal --json
    """
    try:
        if from_account is not None:
            check_account_id(from_account, "--from")
        transaction_id = check_transaction_id(transaction_id)
    except InvalidInput as error:
        raise WrongUsage(error.detail) from None
    with session.directory() as directory:
        found = survey(directory)
        try:
            source = find_journal(directory, journal).directory
        except ConfigError:
            if journal is not None:
                raise
            source = None
        if from_account is None:
            from_account = _payer(found, source, transaction_id)
        traced = trace(found, source, transaction_id, from_account)
    session.answer(_document(traced), lambda console: _show(console, traced))
    click.get_current_context().exit(1 if traced.status.startswith("unknown") else 0)


def _payer(found: Survey, source: Path | None, transaction_id: str) -> str:
    """The only payer of a transfer with this id. Raises `ConfigError` when there is none, or several."""
    payers = payers_of(found, source, pack_transaction_id(transaction_id))
    if not payers:
        looked = "" if source is not None else "; there is no journal on this host: give --journal DIR"
        raise ConfigError(f"no account has a transfer {transaction_id} that is remembered{looked}")
    if len(payers) > 1:
        raise ConfigError(f"several accounts have a transfer of this id: give --from {' or '.join(payers)}")
    return payers[0]


def _document(traced: Trace) -> dict[str, Any]:
    redis = traced.redis
    remembered = redis and {
        "outcome": outcome_text(redis.outcome),
        "seq": redis.seq,
        "idx": redis.idx,
        "to_account": redis.to_account,
        "open": redis.open,
        "credit": redis.credit and outcome_text(redis.credit),
    }
    return {
        "transaction_id": traced.transaction_id,
        "from_account": traced.from_account,
        "partition": traced.partition,
        "status": traced.status,
        "key": traced.key,
        "redis": remembered,
        "redis_error": traced.redis_trouble or None,
        "steps": None if traced.steps is None else [step.document() for step in traced.steps],
        "refunds": [step.document() for step in traced.refunds],
    }


def _show(console: Console, traced: Trace) -> None:
    console.print(
        f"{traced.transaction_id} of {traced.from_account}: {traced.status}", style="bold", soft_wrap=True
    )
    if traced.key is not None:
        console.print(f"by the key {traced.key}: see wallet-admin key show {traced.key}", soft_wrap=True)
    redis = traced.redis
    if traced.redis_trouble:
        console.print(f"Redis: {traced.redis_trouble}", soft_wrap=True)
    elif redis is None:
        console.print(f"Redis: partition {traced.partition} does not remember it")
    else:
        money = "money under way" if redis.open else "nothing under way"
        where = f"entry {redis.seq} of partition {traced.partition}"
        console.print(f"Redis: {outcome_text(redis.outcome)}, {where}, {money}", soft_wrap=True)
    if traced.steps is None:
        console.print("journal: none on this host, give --journal DIR")
    elif not traced.steps:
        console.print("journal: no entry has it")
    for step in (*(traced.steps or ()), *traced.refunds):
        said = step.document()
        where = f"partition {step.partition} seq {step.seq}"
        console.print(f"{said['time']}  {where}  {said['text']}  [{said['outcome']}]", soft_wrap=True)
