"""`wallet-engine dev | serve | journal | follow`: composes the commands, which are imported when they are run."""

import click

from wallet_engine.telemetry.flags import Verb, VerbGroup
from wallet_engine.telemetry.secrets import write_for_owner_only


@click.group(
    cls=VerbGroup,
    verbs={
        "dev": Verb("wallet_engine.dev.command:dev", "Start a whole cluster on this machine."),
        "serve": Verb("wallet_engine.app.serve:serve", "Run one API process."),
        "journal": Verb("wallet_engine.app.journal:journal", "Run one journal process."),
        "follow": Verb("wallet_engine.app.follow:follow", "Follow the journal for history and other sinks."),
    },
)
@click.version_option(package_name="wallet-engine")
def main() -> None:
    """In-memory, sharded wallet engine on Redis Cluster, with a write-ahead journal.

    Flags may stand before or after the command, and each may be given as an environment variable:
    --map-file as WALLET_MAP_FILE.
    """
    write_for_owner_only()
