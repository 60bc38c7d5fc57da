"""Commands that `doctor` prints, run in the state that printed them, with yes as the answer to questions.

`RUN_BY` says which test runs each of them. A test of the findings compares it with all commands that exist, and a test
that is named here and has not run its commands fails (`support/workers.py`).
"""

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, Final

from support.dev_process import DevCluster, admin_environment
from support.shell import environment, run_line
from unit.admin.made import admin

_MENDS: Final = "integration/test_admin_doctor_mends.py::test_"
_SETTINGS: Final = f"{_MENDS}settings_and_memory"
_SLOTS: Final = f"{_MENDS}slots_scripts_and_open_entries"
_MOVES: Final = f"{_MENDS}moves_and_services"
_OLD_MAP: Final = f"{_MENDS}a_journal_copy_that_died_and_an_old_map"
_NEW_COPY: Final = f"{_MENDS}a_copy_that_has_not_joined"
_TROUBLES: Final = f"{_MENDS}troubles_of_a_journal_copy"
_NODES: Final = f"{_MENDS}nodes"
_FOREIGN: Final = f"{_MENDS}keys_that_are_not_the_engines_are_removed_and_no_others"
_HOLDS: Final = "integration/test_admin_doctor.py::test_an_expired_hold_that_cannot_be_released_is_named"
_PENDING: Final = "integration/test_admin_doctor.py::test_pending_says_what_an_open_transfer_waits_for"
_FULL: Final = "faults/test_dead_shard.py::test_g9_g14_a_full_partition_says_so_and_is_well_again_by_itself"
_UNREPRODUCIBLE: Final = (
    "faults/test_unreproducible.py::test_g6_an_entry_that_comes_out_otherwise_stops_its_partition_alone"
)

#: The check and the shape of each command -> the test that runs it.
RUN_BY: Final = {
    ("access", "wallet-admin ca issue --ca"): _NEW_COPY,
    ("access", "wallet-admin key create --role"): (
        "integration/test_api_keys.py::"
        "test_beyond_loopback_callers_say_who_they_are_or_insecure_is_said_aloud[insecure]"
    ),
    ("archive", "wallet-admin journal prune --keep --dry-run"): _TROUBLES,
    (
        "certificates",
        "wallet-admin ca issue --ca --renew",
    ): ("integration/test_api_keys.py::test_a_certificate_that_ends_is_renewed"),
    ("certificates", "wallet-admin ca list --ca"): _TROUBLES,
    ("expiry", "redis-cli PERSIST"): f"{_MENDS}a_key_that_redis_would_forget",
    ("expiry", "redis-cli HPERSIST"): (
        "integration/test_dev.py::test_g14_a_balance_that_the_bundled_server_would_forget"
    ),
    ("followers", "wallet-engine follow --to"): f"{_MENDS}a_follower_that_is_gone",
    ("holds", "wallet-admin hold --account"): _HOLDS,
    ("journal", "wallet-admin backup"): _NEW_COPY,
    ("journal", "wallet-admin journal info"): _FULL,
    ("journal", "wallet-engine journal --journal-id --directory"): _OLD_MAP,
    ("journal", "wallet-engine journal --journal-id --directory --replaces"): (
        "faults/test_journal_copies.py::test_a_copy_whose_disk_is_gone_is_replaced_as_doctor_says"
    ),
    ("keys", "wallet-admin clear-leftovers"): f"{_MENDS}what_nobody_reaches_is_cleared",
    ("keys", "wallet-admin clear-leftovers --foreign"): _FOREIGN,
    ("layout", "wallet-admin rebalance --primaries"): (
        "integration/test_admin_switchover.py::test_primaries_are_evened_out_over_hosts"
    ),
    ("map", "wallet-admin restore --replace"): f"{_MENDS}a_shard_that_nobody_described",
    ("map", "wallet-admin restore --replace --shard"): f"{_MENDS}a_shard_that_nobody_described",
    ("memory", "redis-cli CONFIG SET"): _SETTINGS,
    ("memory", "wallet-admin rebalance"): _SETTINGS,
    ("moves", "wallet-admin abort"): _MOVES,
    ("moves", "wallet-admin resume"): _MOVES,
    ("nodes", "redis-cli CLUSTER FAILOVER"): f"{_MENDS}a_shard_without_a_primary",
    ("nodes", "redis-cli CLUSTER REPLICATE"): _NODES,
    ("nodes", "redis-cli INFO replication"): _NODES,
    ("nodes", "wallet-admin redis acl --node --apply --admin-password-file"): (
        "integration/test_redis_login.py::test_a_node_with_another_password_is_given_the_user_again"
    ),
    ("nodes", "wallet-admin replace-node"): _NODES,
    (
        "open entries",
        "wallet-admin pending",
    ): "faults/test_clocks.py::test_g4_g9_all_clocks_step_forth_and_back",
    ("open entries", "wallet-admin pending --older-than"): _PENDING,
    ("open entries", "wallet-admin rebuild"): _SLOTS,
    ("partitions", "wallet-admin backup && wallet-admin restore --replace"): _OLD_MAP,
    ("partitions", "wallet-admin rebuild"): _UNREPRODUCIBLE,
    ("partitions", "wallet-admin verify --offline"): _UNREPRODUCIBLE,
    ("payments", "redis-cli CONFIG SET"): _SETTINGS,
    ("payments", "redis-cli INFO persistence"): f"{_MENDS}a_shard_that_refuses_writes",
    ("payments", "redis-cli INFO replication"): f"{_MENDS}a_shard_that_refuses_writes",
    ("payments", "wallet-admin journal info"): _FULL,
    ("payments", "wallet-admin moves"): _PENDING,
    ("payments", "wallet-admin rebalance"): _SETTINGS,
    ("scripts", "wallet-admin doctor"): _SLOTS,
    ("services", "curl -s"): _OLD_MAP,
    ("services", "wallet-engine serve"): _MOVES,
    ("settings", "redis-cli CONFIG SET"): _SETTINGS,
    ("slots", "redis-cli CLUSTER SETSLOT"): _SLOTS,
    ("slots", "take slots"): _SLOTS,
    ("slots", "wallet-admin backup && wallet-admin restore --replace"): _OLD_MAP,
    (
        "strangers",
        "wallet-admin backup && wallet-admin restore --replace --shard",
    ): f"{_MENDS}a_stranger_with_slots",
    ("strangers", "wallet-admin replace-node"): f"{_MENDS}a_replacement_that_was_interrupted[False]",
}

#: Verbs of `wallet-admin` that have verbs of their own.
_GROUPS: Final = ("ca", "journal", "key", "redis")

#: What the running test has run.
ran: set[tuple[str, str]] = set()


def shape(line: str) -> str:
    """A command without its names and numbers: program, verb and flags."""
    if line.startswith("("):
        return "take slots"
    return " && ".join(_shape(part, shlex.split(part)) for part in line.split(" && "))


def _shape(text: str, words: list[str]) -> str:
    if persist := re.search(r"redis-cli .* (H?PERSIST) ", text):  # of any key
        return f"redis-cli {persist[1]}"
    if "redis-cli " in text:
        found = re.search(r" ([A-Z]{4,} [\w-]+)", text)
        assert found is not None, text
        return f"redis-cli {found[1]}"
    verbs = 3 if words[0] == "wallet-admin" and words[1] in _GROUPS else 2
    return " ".join([*words[:verbs], *(word for word in words[verbs:] if word.startswith("--"))])


def due(test: str) -> set[tuple[str, str]]:
    """The commands that this test must run. It is named `integration/test_a.py::test_b`, or with `[c]` for one case."""
    return {command for command, by in RUN_BY.items() if by in (test, test.partition("[")[0])}


def run_advice(
    found: dict[str, Any], folder: Path, cluster: DevCluster, number: int = 0, **fill: str
) -> tuple[int, str]:
    """Run a command of a finding in the folder, its capitals filled in; returns the exit status and what it printed.

    A single verb runs in this process, to save time; longer lines, and those that need credentials, run in a shell.
    """
    line = noted(found, number, **fill)
    words, zookeeper = shlex.split(line), cluster.state()["zookeeper"]
    where = (
        {"WALLET_ZOOKEEPER": zookeeper}
        if zookeeper
        else {"WALLET_MAP_FILE": str(cluster.data_dir / "map.json")}
    )
    users = {n: v for n, v in admin_environment(cluster).items() if n.startswith("WALLET_ZOOKEEPER_")}
    if words[0] == "wallet-admin" and "&&" not in words and not users:
        with chdir(folder):
            result = admin(*words[1:], input="y\n", env=where)
        status, said = result.exit_code, result.output
    else:
        done = run_line(line, cwd=folder, zookeeper=zookeeper, known=users)
        status, said = done.returncode, done.stdout + done.stderr
    print(f"$ {line}\n{said}")
    return status, said


@contextmanager
def begun_advice(
    found: dict[str, Any], folder: Path, cluster: DevCluster, number: int = 0, **fill: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The same for a command that runs until it is stopped, which this does at the end."""
    line = noted(found, number, **fill)
    process = subprocess.Popen(
        ["bash", "-c", f"exec {line}"],
        cwd=folder,
        env=environment(cluster.state()["zookeeper"]) | {"WALLET_PORT": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def noted(found: dict[str, Any], number: int = 0, **fill: str) -> str:
    """The line of a command, for a test that runs it itself."""
    line: str = found["commands"][number]
    ran.add((found["check"], shape(line)))
    for name, value in fill.items():
        line = re.sub(rf"\b{name}\b", value, line)
    return line
