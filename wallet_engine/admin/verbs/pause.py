"""`wallet-admin pause` and `unpause`: stop taking new payments for a while, and take them again."""

import time
from typing import Any, Final

import click
from rich.console import Console

from wallet_engine.admin.audit_log import user_name
from wallet_engine.admin.service_calls import ask_one
from wallet_engine.admin.session import Plan, Session, changing_command
from wallet_engine.admin.waiting import wait_until
from wallet_engine.domain.errors import ConfigError, WrongUsage
from wallet_engine.domain.times import time_text
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import ServiceInfo
from wallet_engine.routing.pausing import Pause

#: How long API processes may take to notice a change.
SEEN_S_MAX: Final = 15.0
REASON_LENGTH_MAX: Final = 200


@click.command()
@changing_command
@click.option("--reason", required=True, metavar="TEXT", help="The reason to give to callers.")
def pause(session: Session, reason: str) -> None:
    """Take no new payments: transfers, batches, groups, holds, captures and refunds.

    They are answered 503 `maintenance` with the reason and `Retry-After`, and nothing is done. A caller that repeats
    one with the same id after the pause pays once. Payments under way end normally. You can still read balances, open
    and freeze accounts, and void holds; holds expire. `/readyz` shows the pause.

    Returns when every API process has noticed the pause. wallet-admin pending shows payments still under way.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 pause --reason 'bank closed until 06:00'
    """
    reason = reason.strip()
    if not 1 <= len(reason) <= REASON_LENGTH_MAX or not reason.isprintable():
        raise WrongUsage(f"--reason is a printable text of 1 to {REASON_LENGTH_MAX} characters")
    with session.directory() as directory:
        directory.config()
        services = list(directory.services().values())
        document = {"paused": True, "reason": reason, "api_processes": [info.address for info in services]}
        plan = Plan(f"take no new payments: {reason}", document, lambda console: _plan(console, document))
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            wanted = Pause(reason, user_name(), time.time_ns() // 1_000_000)
            found = directory.pausing.begin(wanted)
            if found != wanted:
                raise ConfigError(f"paused already: {_text(found)}; wallet-admin unpause ends that")
            _wait(directory, services, True)
    session.answer(document, lambda console: console.print(f"paused: {reason}", soft_wrap=True))


@click.command()
@changing_command
def unpause(session: Session) -> None:
    """Take payments again; returns when every API process does. Without a pause it changes nothing.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 unpause
    """
    with session.directory() as directory:
        directory.config()
        found = directory.pausing.get()
        document: dict[str, Any] = {"paused": False, "was": None if found is None else found.reason}
        if found is None:
            session.answer(document, lambda console: console.print("not paused: payments are taken"))
            return
        plan = Plan(
            f"take payments again ({found.reason})",
            document,
            lambda console: console.print(f"end the pause: {_text(found)}", soft_wrap=True),
        )
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            directory.pausing.end()
            _wait(directory, list(directory.services().values()), False)
    session.answer(document, lambda console: console.print("payments are taken again"))


def _plan(console: Console, document: dict[str, Any]) -> None:
    console.print(f"take no new payments: {document['reason']}", style="bold", soft_wrap=True)
    for address in document["api_processes"]:
        console.print(f"  API process at {address} will answer 503 maintenance")


def _text(pause: Pause) -> str:
    return f"{pause.reason} (by {pause.by}, since {time_text(pause.since_ms)})"


def _wait(directory: Directory, services: list[ServiceInfo], paused: bool) -> None:
    """Wait until every API process reports the change. One that left meanwhile reads it at its next start."""

    def seen() -> bool:
        there = directory.services()
        return all(_says(info) is paused for info in services if info.service_id in there)

    wait_until(seen, "an API process has not noticed the change", SEEN_S_MAX)


def _says(info: ServiceInfo) -> bool | None:
    """Whether the process reports a pause; None when it does not answer."""
    try:
        _, document = ask_one(info, "GET", "/readyz")
    except (OSError, ValueError):
        return None
    return any(condition["condition"] == "maintenance" for condition in document.get("conditions", ()))
