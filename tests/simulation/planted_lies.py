"""Bugs that take false data for true: wrong replays, confused names, balances that no account may have."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from simulation.cluster import Cluster
from simulation.planted import Bug, planted_method, planted_script
from simulation.profile import HUGE_MINOR

from wallet_engine.domain import columns, memory, oracle_memory
from wallet_engine.domain.entry import EntryHeader
from wallet_engine.domain.errors import Corruption
from wallet_engine.engine.conditions import Conditions, Report
from wallet_engine.recovery.replay import Replayer

#: (text of the script, its replacement). The replay knows no overdrafts, and does not report what differs.
_REPLAY: Final = (
    (
        "return at and tonumber(match(flag, '^%d+', at + 1)) or 0",
        "return not REPLAY and at and tonumber(match(flag, '^%d+', at + 1)) or 0",
    ),
    (
        "if REPLAY and (outcomes_text ~= recorded or not writes) then return {'DIFFERS', outcomes_text} end",
        "",
    ),
)
#: A stripe of a system account gets the limit of an ordinary account.
_STRIPES: Final = (
    (
        "full > AMOUNT_MAX and to and byte(to) ~= SYSTEM",
        "full > AMOUNT_MAX or left < AMOUNT_MIN",
    ),
)
SCRIPT_CHANGES: Final = (*_REPLAY, *_STRIPES)
#: The length of the packed id, which comes before the payer's name.
_ID_LENGTH: Final = 22


def _fails_once(original: Any) -> Any:
    """An old bug: a difference only fails this try, and what the replay has written stays for the next try."""

    def check(self: Replayer, header: EntryHeader, operations: Any, reply: Any) -> None:
        if type(reply) is bytes and reply.partition(b"\n")[0] != header.text().encode():
            self._failure = Corruption(f"entry {header.seq} does not come out as recorded")
            return
        original(self, header, operations, reply)

    return check


@contextmanager
def _certified_on_the_second_try(cluster: Cluster) -> Iterator[None]:
    with planted_script(*_REPLAY)(cluster), planted_method(Replayer, "_check", _fails_once)(cluster):
        yield


@contextmanager
def _names_that_are_alike(_: Cluster) -> Iterator[None]:
    """Payers whose names begin with the same letter share one field per id, in service, script and oracle."""

    def weak(_key: str, text: str) -> int:
        return ord(text[_ID_LENGTH])

    with (
        patch.object(columns, "siphash", weak),
        patch.object(memory, "siphash", weak),
        patch.object(oracle_memory, "siphash", weak),
    ):
        yield


def _of_the_service_alone(original: Any) -> Any:
    """An old bug: `readyz` looked at the service's own connections, and not at the partitions that take no payments."""

    def reports(self: Conditions, shards: Mapping[int, str]) -> Iterator[Report]:
        return (report for report in original(self, shards) if report.partitions is None)

    return reports


BUGS: Final = (
    Bug(
        "a replay that differs is certified on the second try",
        "G2 G3 G6",
        _certified_on_the_second_try,
        100,
        ("redis_empty", "redis_flushed"),
        changes={"payments_per_caller": 12, "fault_gap_steps": 400},
        seed_min=61,
    ),
    Bug(
        "payers whose names are alike share what is remembered",
        "G4 G5",
        _names_that_are_alike,
        50,
        ("connection_reset",),
        changes={"partitions": 2, "shards": 1, "shared_ids": True},
    ),
    Bug(
        "a stripe of a system account has a limit",
        "G2 G3 G7",
        planted_script(*_STRIPES),
        50,
        ("connection_reset",),
        changes={"funds_minor": HUGE_MINOR},
        seed_min=4,
    ),
    *(
        Bug(
            f"a service is ready: {outage}",
            "G14",
            planted_method(Conditions, "reports", _of_the_service_alone),
            10,
            outage=outage,
        )
        for outage in ("shard_stopped", "shard_refuses")
    ),
)
