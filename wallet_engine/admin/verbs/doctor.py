"""`wallet-admin doctor`: checks everything that can be wrong, once."""

import click
from rich.console import Console

from wallet_engine.admin.diagnosis.examination import examine
from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.findings import CHECKS, find
from wallet_engine.admin.diagnosis.grouping import grouped
from wallet_engine.admin.session import Session, admin_command


@click.command()
@admin_command
@click.pass_context
def doctor(ctx: click.Context, session: Session) -> None:
    """Check everything that can be wrong, and say how to fix it.

    Checks ZooKeeper's servers; the map; every Redis node, its settings, memory and clock; who owns the slots of
    each partition; state, owner and epoch of each partition; scripts and unknown keys; journal copies, their lag,
    disks, archiving and snapshots; transfers and groups that are open for too long; unfinished moves; API processes.
    Finally it writes an entry that changes nothing to every partition, and waits until every journal copy has it on
    disk.

    Run it at any time; it takes half a minute at most. For each finding it prints the exact command that fixes it.
    critical: nothing can be paid. error: money or payments are in danger now. warning: they will be. note: worth
    knowing. Equal findings about several partitions or nodes are one line; --json lists each. doctor checks no
    balances: `wallet-admin verify` does.

    \b
    EXIT STATUS
      0  no error was found (there may be warnings)
      1  an error was found, or ZooKeeper does not answer

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181,zk2:2181 doctor
      wallet-admin --map-file data/map.json doctor --json
    """
    with session.directory() as directory:
        found = find(examine(directory, session.zookeeper))
    healthy = not any(finding.harmful for finding in found)
    document = {"healthy": healthy, "findings": [finding.document() for finding in found]}
    session.answer(document, lambda console: _show(console, found))
    ctx.exit(0 if healthy else 1)


def _show(console: Console, found: list[Finding]) -> None:
    for name, check in CHECKS.items():
        mine = [finding for finding in found if finding.check == name]
        if not mine:
            console.print(f"{'ok':8} {name}: {check.__doc__}", soft_wrap=True)
        for group in grouped(mine):
            style, severity = "bold" if group.finding.harmful else "", group.finding.severity
            console.print(f"{severity:8} {name}: {group.what}", style=style, soft_wrap=True)
            console.print(f"{'':8} mend: {group.mend}", soft_wrap=True)
    critical, errors, warnings = (
        sum(finding.severity == name for finding in found) for name in ("critical", "error", "warning")
    )
    said = f"{'nothing can be paid; ' if critical else ''}{errors} errors, {warnings} warnings"
    console.print(f"{'NOT ' if critical or errors else ''}HEALTHY: {said}", style="bold")
