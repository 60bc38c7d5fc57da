"""`wallet-admin doctor`: one pass over everything that can be wrong."""

import click
from rich.console import Console

from wallet_engine.admin.examination import examine
from wallet_engine.admin.findings import CHECKS, Finding, find
from wallet_engine.admin.session import Session, admin_command


@click.command()
@admin_command
@click.pass_context
def doctor(ctx: click.Context, session: Session) -> None:
    """Look at everything that can be wrong, and say how to mend it.

    Checks ZooKeeper's servers; the map; every Redis node, its settings, memory and clock; who owns the slots of
    each partition; state, owner and epoch of each partition; scripts and unknown keys; journal copies, their lag
    and disks; transfers that are open for too long; moves that stand half-way; API processes.

    Changes nothing, and may be run at any time. For each finding it prints the exact command that mends it. An
    error endangers money or payments now; a warning will; a note is worth knowing. It proves no balance:
    that is `wallet-admin verify`.

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
    errors = sum(finding.severity == "error" for finding in found)
    document = {"healthy": not errors, "findings": [finding.document() for finding in found]}
    session.answer(document, lambda console: _show(console, found))
    ctx.exit(1 if errors else 0)


def _show(console: Console, found: list[Finding]) -> None:
    for name, check in CHECKS.items():
        mine = [finding for finding in found if finding.check == name]
        if not mine:
            console.print(f"{'ok':8} {name}: {check.__doc__}", soft_wrap=True)
        for finding in mine:
            style = "bold" if finding.severity == "error" else ""
            console.print(f"{finding.severity:8} {name}: {finding.what}", style=style, soft_wrap=True)
            console.print(f"{'':8} mend: {finding.mend}", soft_wrap=True)
    errors = sum(finding.severity == "error" for finding in found)
    warnings = sum(finding.severity == "warning" for finding in found)
    console.print(f"{'NOT ' if errors else ''}HEALTHY: {errors} errors, {warnings} warnings", style="bold")
