"""`wallet-admin journal followers`: lists the followers and how far each is; forgets one that is gone for good."""

import click
from rich.console import Console

from wallet_engine.admin.session import Plan, Session, changing_command, plain_table
from wallet_engine.domain.errors import ConfigError


@click.command()
@changing_command
@click.option(
    "--forget",
    metavar="NAME",
    help="Keep nothing for this follower any more. If it runs, it registers again.",
)
def followers(session: Session, forget: str | None) -> None:
    """Show the entries that each follower of the journal's feed has taken and never reads again, running or not.

    Segments stay on disk until every follower listed here has taken them. Use --forget for one that is gone for good;
    if it comes back, it reads removed segments from the archive.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 journal followers
      wallet-admin --zookeeper zk1:2181 journal followers --forget history-of-2025
    """
    with session.directory() as directory:
        found = directory.followers.seqs()
        if forget is not None:
            if forget not in found:
                raise ConfigError(
                    f"there is no follower {forget}: {', '.join(sorted(found)) or 'there are none'}"
                )
            plan = Plan(
                f"forget follower {forget}",
                {"forget": forget, "entries": sum(found[forget].values())},
                lambda console: console.print(
                    f"follower {forget} has taken {sum(found[forget].values()):,} entries"
                ),
                destroys=True,
            )
            if not session.agreed(plan):
                return
            with session.change(directory, plan):
                directory.followers.forget(forget)
            found = directory.followers.seqs()
    document = {
        "followers": [
            {
                "name": name,
                "entries": sum(seqs.values()),
                "partitions": {str(p): seqs[p] for p in sorted(seqs)},
            }
            for name, seqs in sorted(found.items())
        ]
    }

    def show(console: Console) -> None:
        table = plain_table("follower", "partitions", "entries taken")
        for name, seqs in sorted(found.items()):
            table.add_row(name, str(len(seqs)), f"{sum(seqs.values()):,}")
        console.print(table if found else "nobody follows the journal")

    session.answer(document, show)
