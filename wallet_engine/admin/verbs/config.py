"""`wallet-admin config get | set | edit | history`: the configuration of the cluster."""

from typing import Any

import click
import msgspec
from rich.console import Console

from wallet_engine.admin.audit_log import audit_records
from wallet_engine.admin.session import Plan, Session, admin_command, changing_command
from wallet_engine.admin.settings import Setting, changed, check_safe, settings_of, write
from wallet_engine.domain.errors import ConfigError, WrongUsage, as_usage
from wallet_engine.domain.times import time_text
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.flags import VerbGroup


@click.group(cls=VerbGroup)
def config() -> None:
    """Show and change the cluster's configuration.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 config get
      wallet-admin --zookeeper zk1:2181 config set retention-hours 48
      wallet-admin --zookeeper zk1:2181 config history
    """


@config.command()
@admin_command
@click.argument("name", required=False)
def get(session: Session, name: str | None) -> None:
    """Show every setting, or the one of NAME.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 config get
      wallet-admin --zookeeper zk1:2181 config get retention-hours --json
    """
    name = name and name.replace("_", "-")
    with session.directory() as directory:
        settings = settings_of(directory.config())
    chosen = [setting for setting in settings if name in (None, setting.name)]
    if not chosen:
        raise WrongUsage(f"there is no setting {name}: {', '.join(setting.name for setting in settings)}")

    def show(console: Console) -> None:
        for setting in chosen:
            fixed = f"  (cannot be changed: {setting.fixed})" if setting.fixed else ""
            console.print(f"{setting.name:18} {setting.value:>7}  {setting.meaning}{fixed}", soft_wrap=True)

    session.answer({setting.name.replace("-", "_"): setting.value for setting in chosen}, show)


@config.command("set")
@changing_command
@click.argument("name")
@click.argument("value")
def set_(session: Session, name: str, value: str) -> None:
    """Set NAME to VALUE: retention-hours, journal-quorum, system-accounts, or stream-entries-max.

    Processes read the configuration when they start. The answer names those to restart, one after the other.

    retention-hours: 24 or more, and at most twice the present value. Refused while a transfer is open for longer than
    half of the smaller value. Restart every API process before you change it again.

    journal-quorum: to raise it, stop every API process first; every journal copy must answer and have all entries
    that Redis has. Otherwise a recovery could miss entries that were answered under the old quorum.

    system-accounts: names and patterns, separated by commas. Roles other than admin may use no other `@` account.

    stream-entries-max: entries of a partition that the journal may be behind Redis before the partition takes no new
    work. A higher value needs memory in Redis: up to 150 kB per entry of a large request.

    `config history` shows who changed what, and when.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 config set retention-hours 48 --dry-run
      wallet-admin --zookeeper zk1:2181 config set journal-quorum 2 --yes
    """
    name = name.replace("_", "-")
    with session.directory() as directory:
        old = directory.config()
        with as_usage():
            new = changed(old, name, value)
        before, after = (
            next(setting.value for setting in settings_of(config) if setting.name == name)
            for config in (old, new)
        )
        check_safe(directory, old, new)
        restart = _processes(directory) if new != old else []
        document = {"setting": name, "old": before, "new": after, "restart": restart}
        plan = Plan(
            f"{name} from {before} to {after}", document, lambda console: _show_change(console, document)
        )
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            write(directory, old, new)
    session.answer(document, lambda console: _show_change(console, document))


@config.command()
@changing_command
def edit(session: Session) -> None:
    """Open the settings in an editor ($VISUAL, $EDITOR), show the difference, ask, and set them.

    It refuses the same changes as `config set`, and then sets nothing.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 config edit
    """
    with session.directory() as directory:
        old = directory.config()
        new = old
        for name, value in _edited(settings_of(old)).items():
            new = changed(new, name, value)
        before, after = ({s.name: s.value for s in settings_of(config)} for config in (old, new))
        changes = [
            {"setting": name, "old": value, "new": after[name]}
            for name, value in before.items()
            if value != after[name]
        ]
        document = {"changes": changes, "restart": _processes(directory) if changes else []}
        if not changes:
            session.answer(document, lambda console: console.print("nothing is different: nothing was set"))
            return
        check_safe(directory, old, new)
        what = ", ".join(f"{c['setting']} from {c['old']} to {c['new']}" for c in changes)
        plan = Plan(what, document, lambda console: _show_changes(console, document))
        if not session.agreed(plan):
            return
        with session.change(directory, plan):
            write(directory, old, new)
    session.answer(document, lambda console: _show_changes(console, document))


def _edited(settings: list[Setting]) -> dict[str, str]:
    """The settings that the editor changed. Raises `ConfigError` for a line that is no setting."""
    given = {setting.name: str(setting.value) for setting in settings if not setting.fixed}
    lines = [f"# {s.meaning}\n{s.name} = {s.value}\n" for s in settings if not s.fixed]
    text = click.edit("\n".join(lines), extension=".conf")
    wanted = {}
    for line in (text or "").splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if not name or name.startswith("#"):
            continue
        if not equals or name not in given:
            raise ConfigError(f"not a setting that may be changed: {line.strip()}")
        if value != given[name]:
            wanted[name] = value
    return wanted


@config.command()
@admin_command
def history(session: Session) -> None:
    """Show who set what, when and from where, the oldest first.

    They come from the audit records, of which the newest 1,000 are kept.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 config history
    """
    with session.directory() as directory:
        directory.config()
        records = [
            record for record in audit_records(directory) if record.verb in ("config set", "config edit")
        ]
    documents = [{**msgspec.structs.asdict(record), "time": time_text(record.time_ms)} for record in records]

    def show(console: Console) -> None:
        if not records:
            console.print("nothing was set yet")
        for record in records:
            state = f"{record.state}: {record.error}" if record.error else record.state
            said = f"{time_text(record.time_ms)}  {record.what}  [{state}]  {record.user} on {record.host}"
            console.print(said, soft_wrap=True)

    session.answer({"changes": documents}, show)


def _processes(directory: Directory) -> list[str]:
    services = [f"API process {info.service_id} at {info.address}" for info in directory.services().values()]
    return [*(f"journal {name} on {info.host}" for name, info in directory.journals().items()), *services]


def _show_changes(console: Console, document: dict[str, Any]) -> None:
    for change in document["changes"]:
        console.print(f"- {change['setting']} = {change['old']}", style="red", soft_wrap=True)
        console.print(f"+ {change['setting']} = {change['new']}", style="green", soft_wrap=True)
    for process in document["restart"]:
        console.print(f"  to restart: {process}", soft_wrap=True)


def _show_change(console: Console, document: dict[str, Any]) -> None:
    console.print(f"{document['setting']}: {document['old']} -> {document['new']}", style="bold")
    for process in document["restart"]:
        console.print(f"  to restart: {process}")
