"""`wallet-admin journal VERB`: the journal on disk."""

import click

from wallet_engine.telemetry.flags import Verb, VerbGroup


@click.group(
    cls=VerbGroup,
    verbs={
        "info": Verb("wallet_engine.admin.verbs.journal_info:info", "Show the copies: position, size, age."),
        "verify": Verb(
            "wallet_engine.admin.verbs.journal_verify:verify",
            "Compare the copies, or prove one with its archive.",
        ),
        "prune": Verb(
            "wallet_engine.admin.verbs.journal_prune:prune", "Remove archived segments that nothing needs."
        ),
        "followers": Verb(
            "wallet_engine.admin.verbs.journal_followers:followers",
            "Show followers and their positions.",
        ),
        "cut": Verb(
            "wallet_engine.admin.verbs.journal_cut:cut",
            "Cut the forged end of a partition out of a stopped copy.",
        ),
        "cat": Verb("wallet_engine.admin.verbs.journal_cat:cat", "Print entries, in words or as JSON."),
    },
)
def journal() -> None:
    """Show, check and prune the journal on disk.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 journal info
      wallet-admin --zookeeper zk1:2181 journal cat --account alice --since 2026-11-21T10:00:00Z
    """
