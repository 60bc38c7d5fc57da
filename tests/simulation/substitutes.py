"""The surroundings that a simulation replaces, and puts back afterwards: clock, chance, log, constants.

The engine's own code is not touched. Its periods are shortened, all in about the same proportion, so that a
simulated outage of an hour takes some virtual seconds; what must hold between two periods holds between the
shortened ones (a test says which).
"""

import itertools
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from simulation.blocking import SimSocket, clock_of
from simulation.world import World

import wallet_engine.admin.moving.copying
import wallet_engine.admin.moving.driver
import wallet_engine.admin.moving.durable
import wallet_engine.admin.moving.wire
import wallet_engine.admin.waiting
import wallet_engine.app.copy_process
import wallet_engine.drain.shard_drain
import wallet_engine.engine.accumulator
import wallet_engine.engine.batch
import wallet_engine.engine.clocks
import wallet_engine.engine.cluster
import wallet_engine.engine.engine
import wallet_engine.engine.lane
import wallet_engine.engine.reads
import wallet_engine.journal.credits
import wallet_engine.journal.link_client
import wallet_engine.journal.link_server
import wallet_engine.journal.receipts_tracker
import wallet_engine.recovery.ballot
import wallet_engine.recovery.catchup
import wallet_engine.recovery.fellows
import wallet_engine.recovery.join
import wallet_engine.recovery.keeper
import wallet_engine.recovery.peer_session
import wallet_engine.recovery.recover
import wallet_engine.recovery.returning
import wallet_engine.redis_store.connection
import wallet_engine.redis_store.slots_owner
import wallet_engine.redis_store.topology
import wallet_engine.routing.model
import wallet_engine.saga.expiry
import wallet_engine.saga.sweeper
import wallet_engine.service.wallet
from wallet_engine.domain.addresses import split_address
from wallet_engine.engine.horizons import Horizons
from wallet_engine.redis_store.topology import NodeView
from wallet_engine.routing.slots import slot_range

#: module -> constant -> value in the simulation.
PERIODS: Final[dict[str, dict[str, float]]] = {
    "engine.engine": {
        "RECEIPT_TIMEOUT_S": 4.0,
        "RECEIPT_TIMEOUT_AFTER_RECOVERY_S": 0.5,
        "HOLD_RETRY_S": 0.3,
        "HOLD_MS_MAX": 600,
    },
    "engine.accumulator": {"HOLD_MS_MAX": 600, "UNREAD_S_MAX": 4.0},
    "engine.reads": {"HOLD_MS_MAX": 600, "_RECEIPT_TIMEOUT_S": 1.5, "_SETTLED_TIMEOUT_S": 3.0},
    "journal.credits": {"CLOCK_MARGIN_MS": 2_000},
    "recovery.fellows": {"POLL_S": 0.5, "COUNCIL_S": 0.5, "LATE_ENTRIES_MAX": 2},
    "recovery.ballot": {"FOLLOW_S_MAX": 3.0},
    "recovery.catchup": {"ENTRIES_S_MAX": 3.0},
    "journal.peers": {"CONNECT_S_MAX": 0.7, "ANSWER_S_MAX": 1.5},
    "drain.shard_drain": {"TRIM_S": 0.7, "WITNESS_S": 0.7, "MOVING_S_MAX": 2.0},
    #: A freeze keeps its ratio to the time that services hold operations; a copy takes many calls.
    "admin.moving.driver": {
        "FREEZE_S_MAX": 0.25,
        "SETBACKS_S_MAX": 8.0,
        "SETBACK_PAUSE_S": 0.1,
        "UNDO_S_MAX": 4.0,
        "SEEN_S_MAX": 6.0,
    },
    "admin.moving.copying": {"FIELDS_PER_CALL": 3, "ENTRIES_PER_CALL": 2, "DIRTY_MAX": 4},
    "admin.moving.wire": {"CONNECT_S_MAX": 0.8, "REPLY_S_MAX": 2.0},
    "redis_store.connection": {"REPLY_TIMEOUT_S": 2.0},
    "service.accounts": {"ANSWER_TIMEOUT_S": 3.0},
    "service.transfers": {"ANSWER_TIMEOUT_S": 3.0},
    "saga.standing": {"REST_S_MIN": 0.5, "REST_S_MAX": 2.0, "OPEN_PER_RECEIVER_MAX": 40},
    "saga.expiry": {"TICK_S": 0.7},
    "saga.group_sweeper": {"TICK_S": 0.7, "RECORD_AGE_S_MIN": 1.0, "DRIVE_TIMEOUT_S": 6.0},
    "saga.sweeper": {
        "RETRY_S": 1.0,
        "SWEEP_S": 0.7,
        "OPEN_AGE_MS_MIN": 1_000,
        "DRIVE_TIMEOUT_S": 6.0,
        "MEMBERS_PER_PAGE": 8,
        "ENTRIES_AT_ONCE_MAX": 4,
        "OPEN_PER_RECEIVER_MAX": 40,
    },
    "routing.model": {"RETENTION_MS_MIN": 1_000, "STREAM_ENTRIES_MAX_LEAST": 24},
}
#: Retention of a simulated cluster: two windows pass in some virtual seconds.
RETENTION_MS: Final = 40_000
HORIZONS: Final = Horizons(issued_age_ms_max=8_000)

Find = Callable[[Sequence[str], list[str] | None], NodeView | None]


class NoMetrics:
    """Takes every observation and keeps none."""

    def __getattr__(self, _name: str) -> "NoMetrics":
        return self

    def __call__(self, *_args: Any, **_kwargs: Any) -> "NoMetrics":
        return self


class SimLog:
    """A module's `log`: it writes to the trace; a line that reports a bug ends the run."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _note(self, event: str, **fields: Any) -> None:
        if self._world.trace is not None:
            self._world.note(event + "".join(f" {name}={value}" for name, value in fields.items()))

    debug = info = warning = error = _note

    def critical(self, event: str, **fields: Any) -> None:
        self._note(event, **fields)
        self._world.violate(f"logged as critical: {event} {fields}")

    def exception(self, event: str, **fields: Any) -> None:
        loop = self._world.running
        if loop is not None and not loop.dead:
            self.critical(f"{event}: {sys.exc_info()[1]!r}", **fields)


def _connected(address: str) -> SimSocket:
    wire = _module("admin.moving.wire")
    link = SimSocket(split_address(address), wire.CONNECT_S_MAX)
    link.settimeout(wire.REPLY_S_MAX)
    return link


def _module(name: str) -> ModuleType:
    return sys.modules[f"wallet_engine.{name}"]


def _engine_modules() -> list[ModuleType]:
    """All but `verify`, which tests run on what a run has left: it is no part of the run."""
    return [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith("wallet_engine.") and not name.startswith("wallet_engine.admin.proof.")
    ]


def _serial_hash() -> Callable[[Any], int]:
    """A `__hash__` by order of first use, so that sets of such objects have one order in every run."""
    serials = itertools.count(1)
    known: dict[int, tuple[int, Any]] = {}

    def hashed(self: Any) -> int:
        found = known.get(id(self))
        if found is None:
            found = known[id(self)] = next(serials), self  # kept alive: its id is not used again
        return found[0]

    return hashed


@contextmanager
def surroundings(
    world: World,
    find_primary: Find,
    check_settings: Callable[..., None],
    journal_copy: type,
    connect: Callable[..., Any],
) -> Iterator[None]:
    """Replaces everything that the engine must not get from the machine it runs on."""
    rng = world.rng
    clock, chosen = clock_of(world), SimpleNamespace(token_hex=lambda size: rng.randbytes(size).hex())
    nonces = (f"{rng.getrandbits(64):016x}" for _ in itertools.count())
    log = SimLog(world)
    replaced: list[tuple[Any, str, Any]] = [
        (_module("engine.batch"), "_nonce", nonces),
        (_module("engine.lane"), "find_primary", find_primary),
        (_module("recovery.recover"), "find_primary", find_primary),
        (_module("app.copy_process"), "JournalCopy", journal_copy),
        (_module("recovery.recover"), "check_settings", check_settings),
        (_module("admin.moving.wire"), "_connected", _connected),
        # One slot stands for the partition: commands for thousands of slots would take a second.
        (_module("admin.moving.driver"), "slot_range", lambda *of: slot_range(*of)[:1]),
        (_module("admin.moving.durable"), "socket", SimpleNamespace(create_connection=SimSocket)),
        *((_module(f"redis_store.{name}"), "connect", connect) for name in ("topology", "slots_owner")),
        (wallet_engine.engine.accumulator.Accumulator, "__hash__", _serial_hash()),
        (wallet_engine.journal.link_server._ServiceConnection, "__hash__", _serial_hash()),
    ]
    replaced += [
        (_module(where), name, value) for where, names in PERIODS.items() for name, value in names.items()
    ]
    #: Replaced in every module that has it under this name, so that no user is missed.
    everywhere = {"time": (time, clock), "random": (random, rng), "secrets": (secrets, chosen)}
    for module in _engine_modules():
        if hasattr(module, "log"):
            replaced.append((module, "log", log))
        replaced += [
            (module, name, other)
            for name, (real, other) in everywhere.items()
            if vars(module).get(name) is real
        ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
