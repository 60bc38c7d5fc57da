"""The runbooks as tests walk them: the tests run the commands of the pages.

`WALKED_BY` says which test runs each command of each runbook. A unit test compares it with the pages, and a test that
is named here and has not run its commands fails (`support/workers.py`).
"""

import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner

from wallet_engine.admin.cli import main as admin
from wallet_engine.cli import main as engine

_PAGES: Final = Path(__file__).parents[2] / "cluster_config"
RUNBOOKS: Final = _PAGES / "RUNBOOKS.md"
DEPLOY: Final = _PAGES / "DEPLOY.md"

_A_SHARD: Final = "integration/test_admin_move.py::test_a_shard_comes_and_goes_under_traffic"
_A_NODE: Final = "integration/test_admin_doctor.py::test_a_node_is_replaced_while_payments_go_on"
_SWITCHED: Final = "integration/test_admin_switchover.py::test_there_and_back_under_traffic"
_EVENED: Final = "integration/test_admin_switchover.py::test_primaries_are_evened_out_over_hosts"
_A_COPY: Final = "faults/test_journal_copies.py::test_a_copy_whose_disk_is_gone_is_replaced_as_doctor_says"
_PRUNED: Final = "faults/test_pruned.py::test_g6_g9_what_is_in_the_archive_alone_is_there_for_all"
_PAUSED: Final = "integration/test_admin_pause.py::test_nothing_is_paid_and_all_else_goes_on"
_STUCK: Final = "integration/test_admin_doctor.py::test_pending_says_what_an_open_transfer_waits_for"
_CLOSING: Final = "faults/test_closing.py::test_g9_a_close_whose_process_is_killed_is_repeated_or_undone"
_STOPPED: Final = (
    "faults/test_unreproducible.py::test_g6_an_entry_that_comes_out_otherwise_stops_its_partition_alone"
)
_SLOTS: Final = (
    "integration/test_admin_doctor.py::test_slots_moved_behind_the_maps_back_stop_their_partitions_only"
)
_PAST: Final = "integration/test_history.py::test_verify_names_what_differs_and_rebuild_mends_it"
_DETACHED: Final = "integration/test_history_detach.py::test_who_has_moved_in_detached_months_alone_goes_on"
_SAID: Final = "faults/test_minted.py::test_the_others_pay_and_doctor_and_verify_say_what_is"
_ACCEPTED: Final = "faults/test_minted.py::test_what_is_accepted_serves_again_and_stays_so"
_CUT: Final = "faults/test_minted.py::test_what_cannot_be_replayed_is_cut_and_the_partition_serves"
_NO_TREE: Final = "faults/test_zookeeper_lost.py::test_the_runbook_is_walked_while_payments_go_on"
_MENDS: Final = "integration/test_admin_doctor_mends.py::test_"
_UPGRADED: Final = (
    "faults/test_rolling_upgrade.py::test_g9_no_answered_payment_is_lost_and_none_is_made_twice"
)

#: Runbook -> (verb and flags of a command -> the test that runs it). What has no commands has a test under "".
WALKED_BY: Final = {
    "Add a node": {
        "wallet-admin add-shard": _A_SHARD,
        "wallet-admin rebalance": _A_SHARD,
        "wallet-admin verify": _A_SHARD,
        "wallet-admin add-replica": _A_NODE,
    },
    "Keys that are in the way": {
        "wallet-admin clear-leftovers": f"{_MENDS}what_nobody_reaches_is_cleared",
        "wallet-admin clear-leftovers --foreign": (
            f"{_MENDS}keys_that_are_not_the_engines_are_removed_and_no_others"
        ),
    },
    "Drain a node": {
        "wallet-admin drain": _A_SHARD,
        "wallet-admin remove-shard": _A_SHARD,
        "wallet-admin shards": _A_SHARD,
    },
    "Replace a dead node": {"wallet-admin doctor": _A_NODE, "wallet-admin replace-node": _A_NODE},
    "Take a primary's host down": {
        "wallet-admin switchover": _SWITCHED,
        "wallet-admin switchover --to": _SWITCHED,
        "wallet-admin rebalance --primaries": _EVENED,
    },
    "Upgrade": {
        "wallet-admin redis acl --apply --journal-password-file": _UPGRADED,
        "wallet-admin history migrate": _UPGRADED,
        "wallet-admin history verify": _UPGRADED,
        "wallet-admin history rebuild --wait": _UPGRADED,
        "wallet-admin redis acl --admin-password-file --api-password-file --apply": _UPGRADED,
        "wallet-admin status": _UPGRADED,
        "wallet-admin doctor": _UPGRADED,
    },
    "Lost journal disk": {
        "wallet-admin journal info": _A_COPY,
        "wallet-admin doctor": _A_COPY,
        "wallet-engine journal --directory --journal-id --replaces": _A_COPY,
        "wallet-admin journal verify": _A_COPY,
        "wallet-admin backup": _A_COPY,
    },
    "The journal's disk fills": {"wallet-admin journal prune --keep": _PRUNED},
    "Take no payments for a while": {
        "wallet-admin pause --reason": _PAUSED,
        "wallet-admin pending": _PAUSED,
        "wallet-admin unpause": _PAUSED,
    },
    "A transfer is stuck": {
        "wallet-admin pending --older-than": _STUCK,
        "wallet-admin transfer --from": _STUCK,
        "wallet-admin doctor": _STUCK,
    },
    "An account is frozen by a close that has not ended": {
        "wallet-admin account": _CLOSING,
        "wallet-admin unfreeze": _CLOSING,
    },
    "A partition is stopped": {
        "wallet-admin doctor": _STOPPED,
        "wallet-admin verify --offline": _STOPPED,
        "wallet-admin journal verify": _STOPPED,
        "wallet-admin rebuild": _STOPPED,
    },
    "A partition stays `recovering`": {"wallet-admin rebuild --without-newer": _SLOTS},
    "The history is behind, wrong or gone": {
        "wallet-admin history status": _PAST,
        "wallet-admin history verify": _PAST,
        "wallet-admin history rebuild": _PAST,
        "wallet-admin history detach": _DETACHED,
    },
    "An entry that nobody may have written": {
        "wallet-admin doctor": _SAID,
        "wallet-admin journal cat --partition --since": _SAID,
        "wallet-admin key list": _SAID,
        "wallet-admin rebuild --accept": _ACCEPTED,
        "wallet-admin journal cut": _CUT,
        "wallet-admin rebuild": _CUT,
    },
    "Alerts": {"": "unit/telemetry/test_alerts.py::test_each_alert_fires"},
    "ZooKeeper lost its data": {
        "wallet-admin restore": _NO_TREE,
        "wallet-admin doctor": _NO_TREE,
        "wallet-admin verify": _NO_TREE,
    },
    "What doctor says of a healthy cluster": {"": "integration/test_admin_doctor.py::test_a_healthy_cluster"},
    "And of one with planted faults": {
        "": "integration/test_admin_doctor.py::test_every_planted_fault_is_found_and_its_command_named"
    },
}

_THREE_HOSTS: Final = (
    "faults/test_three_hosts.py::test_g13_three_hosts_with_everything_on_outlive_one_of_them"
)
#: Part of the page on deployment -> the test that does what it says. The parts of the three hosts run as they stand.
DEPLOYED_BY: Final = {
    "Certificates between our processes": (
        "integration/test_api_keys.py::test_a_certificate_that_ends_is_renewed"
    ),
    "Closing a running cluster": "faults/test_change_over.py::test_g13_an_open_cluster_is_closed_while_it_is_paid",
    "Three hosts, command by command": _THREE_HOSTS,
    "Redis behind users and TLS": (
        "integration/test_redis_login.py::test_a_cluster_pays_recovers_moves_and_verifies"
    ),
    "ZooKeeper by TLS": "integration/test_zookeeper_tls.py::test_a_tree_is_written_and_read_by_tls",
    "Keys and TLS": "integration/test_api_keys.py::test_a_key_counts_everywhere_within_a_second_and_so_does_its_end",
}
#: Too long for the suite.
SOAKS: Final = {_NO_TREE, _UPGRADED, _THREE_HOSTS, DEPLOYED_BY["Closing a running cluster"]}


_PROGRAMS: Final = {"wallet-admin": admin, "wallet-engine": engine}
_COMMAND: Final = re.compile(r"wallet-(?:admin|engine) [^|&;\n]*")
#: They change how a verb asks and prints, and where a process listens, not what it does.
_MANNERS: Final = {"--yes", "--dry-run", "--json", "--host", "--insecure"}
_ALIASES: Final = {"--from-account": "--from"}

#: Verbs and flags of commands that the running test has run.
ran: list[tuple[str, frozenset[str]]] = []


def commands_of(title: str) -> list[str]:
    """The command lines of one runbook, in their order, without remarks."""
    lines = sections()[title]
    assert lines, f"the runbook {title!r} has no commands"
    return lines


def sections(page: Path = RUNBOOKS) -> dict[str, list[str]]:
    """The heading of each runbook -> its command lines."""
    _, *found = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.M)
    return {
        title: [
            re.sub(r"\s+# .*$", "", line)
            for line in re.findall(r"^ {4,}(wallet-(?:admin|engine) .*)$", text, re.M)
        ]
        for title, text in (section.split("\n", 1) for section in found)
    }


def shape(words: Sequence[str]) -> tuple[str, frozenset[str]] | None:
    """`wallet-admin journal prune` and its flags; None when it is no verb of ours."""
    program, rest = words[0], list(words[1:])
    group: Any = _PROGRAMS[program]
    verbs = [program]
    while hasattr(group, "list_commands"):
        named = group.list_commands(None)
        at = next((at for at, word in enumerate(rest) if word in named), None)
        if at is None:
            return None
        verbs.append(rest[at])
        group, rest = group.get_command(None, rest[at]), rest[at + 1 :]
    flags = {word.partition("=")[0] for word in rest if word.startswith("--")}
    return " ".join(verbs), frozenset(_ALIASES.get(flag, flag) for flag in flags - _MANNERS)


def due(test: str) -> set[str]:
    """The commands that this test must run. It is named `integration/test_a.py::test_b`, or with `[c]` for one case."""
    rows = (row for walk in WALKED_BY.values() for row in walk.items())
    return {command for command, by in rows if command and by in (test, test.partition("[")[0])}


def missed(test: str) -> list[str]:
    """Those of them that it has not run; a command with more flags counts as the same."""
    return sorted(
        command for command in due(test) if not any(_is_in(command, verbs, flags) for verbs, flags in ran)
    )


def _is_in(command: str, verbs: str, flags: frozenset[str]) -> bool:
    named = frozenset(word for word in command.split(" ") if word.startswith("--"))
    return command.partition(" --")[0] == verbs and named <= flags


def text_of(line: str) -> str:
    """A command line as `WALKED_BY` has it."""
    found = shape(shlex.split(line))
    assert found is not None, line
    return " ".join((found[0], *sorted(found[1])))


def note(words: Sequence[str]) -> None:
    """Note that a process was started, or `wallet-admin` called, with these words."""
    for at, word in enumerate(words[:6]):
        if Path(word).name in _PROGRAMS:
            found = shape([Path(word).name, *words[at + 1 :]])
            if found is not None:
                ran.append(found)
            return
        for line in _COMMAND.findall(word) if " wallet-" in f" {word}" else ():
            note(shlex.split(line, comments=True))


@contextmanager
def noted() -> Iterator[None]:
    """Every run meanwhile is noted: of processes, and of `wallet-admin` in this process."""
    start, invoke = subprocess.Popen.__init__, CliRunner.invoke

    def started(self: Any, args: Any, *more: Any, **options: Any) -> None:
        note([args] if isinstance(args, str) else [str(word) for word in args])
        start(self, args, *more, **options)

    def invoked(self: Any, cli: Any, args: Any = None, *more: Any, **options: Any) -> Any:
        program = next((name for name, group in _PROGRAMS.items() if cli is group), None)
        if program is not None and args is not None:
            note([program, *(shlex.split(args) if isinstance(args, str) else args)])
        return invoke(self, cli, args, *more, **options)

    subprocess.Popen.__init__, CliRunner.invoke = started, invoked  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        subprocess.Popen.__init__, CliRunner.invoke = start, invoke  # type: ignore[method-assign]
