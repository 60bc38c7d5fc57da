"""`wallet-admin audit`: who changed what, when and from where."""

import click
import msgspec
from rich.console import Console

from wallet_engine.admin.audit_log import AuditRecord, audit_records
from wallet_engine.admin.session import Session, admin_command
from wallet_engine.domain.times import time_text


@click.command()
@admin_command
@click.option(
    "--last", type=click.IntRange(min=1), default=50, show_default=True, help="How many, newest last."
)
def audit(session: Session, last: int) -> None:
    """Show who changed what, when and from where.

    Every changing verb writes a record before it begins, and its result afterwards: begun (still under way, or
    the command was killed), done, or failed with the reason. ZooKeeper keeps the newest 1,000. Each record also
    goes to syslog (facility auth) of the machine on which the command ran.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 audit
      wallet-admin --zookeeper zk1:2181 audit --last 1000 --json
    """
    with session.directory() as directory:
        directory.config()
        records = audit_records(directory)[-last:]
    documents = [{**msgspec.structs.asdict(record), "time": time_text(record.time_ms)} for record in records]
    session.answer({"records": documents}, lambda console: _show(console, records))


def _show(console: Console, records: list[AuditRecord]) -> None:
    if not records:
        console.print("nothing was changed yet")
    for record in records:
        state = f"{record.state}: {record.error}" if record.error else record.state
        who = f"{record.user} on {record.host} pid {record.pid}"
        line = f"{time_text(record.time_ms)}  {record.verb}: {record.what}  [{state}]  {who}"
        console.print(line, soft_wrap=True)
