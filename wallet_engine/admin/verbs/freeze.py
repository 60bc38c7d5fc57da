"""`wallet-admin freeze` and `unfreeze`: stop an account, and let it pay and receive again."""

from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.service_calls import ask_service
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.domain.errors import ConfigError, InvalidInput, WrongUsage
from wallet_engine.domain.ids import check_account_id, is_system


@click.command()
@changing_command
@click.argument("account")
def freeze(session: Session, account: str) -> None:
    """Freeze ACCOUNT: it neither pays nor receives any more.

    It takes effect with the next operation. A transfer that was debited before still ends, paid or refunded. A live
    API process does the work, so the answer means that it is on disk. Freezing a frozen account changes nothing and
    succeeds.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 freeze alice
      wallet-admin --zookeeper zk1:2181 freeze alice --yes --json
    """
    _flag(session, account, "freeze", "frozen")


@click.command()
@changing_command
@click.argument("account")
def unfreeze(session: Session, account: str) -> None:
    """Let a frozen ACCOUNT pay and receive again.

    A live API process does the work, so the answer means that it is on disk. Unfreezing an active account changes
    nothing and succeeds.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 unfreeze alice
    """
    _flag(session, account, "unfreeze", "active")


def _flag(session: Session, account: str, action: str, status: str) -> None:
    try:
        check_account_id(account, "ACCOUNT")
    except InvalidInput as error:
        raise WrongUsage(error.detail) from None
    if is_system(account):
        raise ConfigError(f"{account} is a system account: it cannot be frozen")
    caller = session.caller()
    with session.directory() as directory:
        directory.config()
        services = list(directory.services().values())
        path = f"/v1/accounts/{account}"
        before = _account(*ask_service(services, "GET", path, caller))
        plan = Plan(
            f"{action} account {account}",
            {"account_id": account, "status": before["status"], "status_wanted": status},
            lambda console: _show(console, before, f"to be {status}"),
        )
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            _account(*ask_service(services, "POST", f"{path}/{action}", caller))
            after = _account(*ask_service(services, "GET", path, caller))
            if after["status"] != status:
                raise ConfigError(
                    f"{account} is {after['status']} again: somebody else has changed it meanwhile"
                )
    session.answer(after, lambda console: _show(console, after))


def _account(status: int, document: dict[str, Any]) -> dict[str, Any]:
    """The account in an answer. Raises `ConfigError` with the error of the API."""
    if status == 401:
        raise ConfigError("the API wants a key: give one of role admin in --key-file, or as WALLET_KEY")
    if status != 200:
        raise ConfigError(
            f"the API answers {status} {document.get('code', '')}: {document.get('detail', '')}"
        )
    return document


def _show(console: Console, account: dict[str, Any], more: str = "") -> None:
    balances = ", ".join(f"{balance['balance']} {balance['currency']}" for balance in account["balances"])
    console.print(f"{account['account_id']}  {account['status']}  {more}".rstrip(), style="bold")
    console.print(f"  {balances}", soft_wrap=True)
