"""`wallet-admin VERB …`: the list of verbs. The module of a verb is imported when the verb runs."""

import logging

import click

from wallet_engine.telemetry.flags import Verb, VerbGroup
from wallet_engine.telemetry.secrets import write_for_owner_only


@click.group(
    cls=VerbGroup,
    verbs={
        "cluster": Verb(
            "wallet_engine.admin.verbs.cluster:cluster", "Make one Redis Cluster of nodes: form."
        ),
        "init": Verb("wallet_engine.admin.verbs.init:init", "Initialise a new cluster."),
        "status": Verb(
            "wallet_engine.admin.verbs.status:status", "Show shards, partitions, journals, services."
        ),
        "top": Verb("wallet_engine.admin.verbs.top:top", "Show live what the cluster is doing."),
        "partitions": Verb(
            "wallet_engine.admin.verbs.partitions:partitions", "Show partitions with size and position."
        ),
        "shards": Verb(
            "wallet_engine.admin.verbs.shards:shards", "Show shards and nodes, their load and lag."
        ),
        "doctor": Verb("wallet_engine.admin.verbs.doctor:doctor", "Check everything that can be wrong."),
        "verify": Verb(
            "wallet_engine.admin.verbs.verify:verify", "Prove that Redis holds what the journal says."
        ),
        "balance": Verb("wallet_engine.admin.verbs.balance:balance", "Show a balance, now or in the past."),
        "account": Verb(
            "wallet_engine.admin.verbs.account:account", "Show an account: balances, flags, last entries."
        ),
        "transfer": Verb(
            "wallet_engine.admin.verbs.transfer:transfer", "Show all that is known of one transfer."
        ),
        "hold": Verb("wallet_engine.admin.verbs.hold:hold", "Show one hold."),
        "holds": Verb("wallet_engine.admin.verbs.hold:holds", "List the open holds of an account."),
        "pending": Verb(
            "wallet_engine.admin.verbs.pending:pending", "Show open transfers and what they wait for."
        ),
        "freeze": Verb(
            "wallet_engine.admin.verbs.freeze:freeze", "Stop an account from paying and receiving."
        ),
        "unfreeze": Verb(
            "wallet_engine.admin.verbs.freeze:unfreeze", "Let a frozen account pay and receive."
        ),
        "pause": Verb("wallet_engine.admin.verbs.pause:pause", "Take no new payments for a while."),
        "unpause": Verb("wallet_engine.admin.verbs.pause:unpause", "Take payments again."),
        "journal": Verb(
            "wallet_engine.admin.verbs.journal:journal",
            "The journal: info, cat, verify, prune, followers, cut.",
        ),
        "snapshot": Verb("wallet_engine.admin.verbs.snapshot:snapshot", "Make snapshots of every partition."),
        "replay": Verb("wallet_engine.admin.verbs.replay:replay", "Write a whole past state."),
        "rebuild": Verb("wallet_engine.admin.verbs.rebuild:rebuild", "Rebuild a partition from the journal."),
        "move": Verb("wallet_engine.admin.verbs.moves:move", "Move a partition while payments go on."),
        "drain": Verb("wallet_engine.admin.verbs.moves:drain", "Move every partition away from a shard."),
        "rebalance": Verb(
            "wallet_engine.admin.verbs.moves:rebalance", "Spread partitions evenly over shards."
        ),
        "add-shard": Verb("wallet_engine.admin.verbs.add_shard:add_shard", "Add an empty shard."),
        "remove-shard": Verb("wallet_engine.admin.verbs.add_shard:remove_shard", "Remove a drained shard."),
        "add-replica": Verb(
            "wallet_engine.admin.verbs.add_replica:add_replica", "Give a shard one more replica."
        ),
        "switchover": Verb(
            "wallet_engine.admin.verbs.switchover:switchover", "Make a replica the primary of its shard."
        ),
        "replace-node": Verb(
            "wallet_engine.admin.verbs.replace_node:replace_node",
            "Replace a dead Redis node by a new one.",
        ),
        "clear-leftovers": Verb(
            "wallet_engine.admin.moving.leftovers:clear_leftovers", "Remove keys that nothing reaches."
        ),
        "moves": Verb("wallet_engine.admin.verbs.moves:moves", "List the moves in progress."),
        "resume": Verb("wallet_engine.admin.verbs.moves:resume", "Continue an interrupted move."),
        "abort": Verb("wallet_engine.admin.verbs.moves:abort", "Undo a move that has not switched."),
        "history": Verb(
            "wallet_engine.admin.verbs.history:history",
            "The history store: migrate, verify, rebuild, status.",
        ),
        "key": Verb("wallet_engine.admin.verbs.key:key", "Create, rotate and revoke API keys."),
        "ca": Verb(
            "wallet_engine.admin.verbs.ca:ca",
            "Certificates of our processes: init, issue, list, revoke, show.",
        ),
        "redis": Verb("wallet_engine.admin.verbs.redis_acl:redis", "The users of Redis: acl."),
        "config": Verb(
            "wallet_engine.admin.verbs.config:config", "The configuration: get, set, edit, history."
        ),
        "backup": Verb("wallet_engine.admin.verbs.backup:backup", "Write the tree in ZooKeeper into a file."),
        "restore": Verb(
            "wallet_engine.admin.verbs.backup:restore", "Restore the tree in ZooKeeper from a backup."
        ),
        "audit": Verb("wallet_engine.admin.verbs.audit:audit", "Show who changed what, when and from where."),
        "protect": Verb(
            "wallet_engine.admin.verbs.protect:protect", "Restrict who may change the tree in ZooKeeper."
        ),
        "completion": Verb(
            "wallet_engine.admin.verbs.completion:completion", "Print a shell's completion script."
        ),
    },
)
@click.version_option(package_name="wallet-engine")
def main() -> None:
    """Operate a wallet cluster: set it up, inspect it, verify it, ask for any past balance.

    --zookeeper or --map-file says where the cluster is described. Flags may stand before or after the verb.
    Each may be an environment variable instead: WALLET_ZOOKEEPER for --zookeeper.

    \b
    EXIT STATUS
      0  done, and all is well
      1  it failed, found something wrong, was interrupted (Ctrl-C), or its question was
         answered no; one line on standard error says what to do
      2  the command line is not understood

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181,zk2:2181 status
      wallet-admin --map-file data/map.json verify --json
      WALLET_ZOOKEEPER=zk1:2181 wallet-admin balance alice USD --at 2026-11-21T10:00:00Z
    """
    write_for_owner_only()
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())  # the answer says all there is to know
