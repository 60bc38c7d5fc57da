"""Runs planned moves one after another and tells the user about progress, interruption and the next step."""

import os
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import TaskID

from wallet_engine.admin.audit_log import user_name
from wallet_engine.admin.moving.driver import Driver, Outcome
from wallet_engine.admin.moving.planning import PlannedMove
from wallet_engine.admin.moving.wire import Setback
from wallet_engine.admin.nodes import memory_text
from wallet_engine.admin.session import Plan, Session, plain_table
from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.tree import StoreUnavailable, TreeError


def plan_of(what: str, moves: Sequence[PlannedMove]) -> Plan:
    """The plan of some moves, to show and agree to."""
    document = {"what": what, "moves": [move.document() for move in moves]}

    def show(console: Console) -> None:
        table = plain_table("partition", "from", "to", "accounts", "answers", "memory", "open", title=what)
        for move in moves:
            counts = (
                f"{move.accounts:,}",
                f"{move.answers:,}",
                memory_text(move.bytes),
                str(move.open_entries),
            )
            table.add_row(str(move.partition), move.source, move.target, *counts)
        console.print(table)
        console.print(
            "Each partition serves while it is copied, and is paused for its last entries, well under a second: "
            "its requests wait, none fails."
        )

    return Plan(what, document, show)


def new_driver(directory: Directory, partition: int, **hooks: Any) -> Driver:
    """A driver named after this user and host."""
    who = f"{user_name()} on {socket.gethostname()} pid {os.getpid()}"
    return Driver(directory, partition, secrets.token_hex(8), who, **hooks)


class Pace:
    """Sleeps so that no more than `fields_per_s_max` pass per second; None: no limit."""

    def __init__(self, fields_per_s_max: int | None) -> None:
        self._max = fields_per_s_max
        self._free_s = time.monotonic()

    def passed(self, fields: int) -> None:
        if self._max is None:
            return
        now_s = time.monotonic()
        self._free_s = max(self._free_s, now_s) + fields / self._max
        time.sleep(self._free_s - now_s)


def run_moves(
    session: Session, directory: Directory, moves: Sequence[PlannedMove], throttle: int | None = None
) -> list[Outcome]:
    """Move one after another, with at most `throttle` fields per second. Adds advice to the errors of `Driver`."""
    pace = Pace(throttle)
    outcomes: list[Outcome] = []
    with session.progress() as progress:
        for move in moves:
            task = progress.add_task(f"partition {move.partition} to {move.target}", total=2 * move.fields)

            def copied(fields: int, task: TaskID = task) -> None:
                progress.advance(task, fields)
                pace.passed(fields)

            driver = new_driver(directory, move.partition, progress=copied)
            with said_how_to_go_on(directory, move.partition, len(moves) - len(outcomes) - 1):
                outcomes.append(driver.begin(move.source, move.target))
            progress.remove_task(task)
    return outcomes


@contextmanager
def said_how_to_go_on(directory: Directory, partition: int, left: int = 0) -> Iterator[None]:
    """If a move stops, add to the error how to end it. `left`: number of partitions still to be moved after it."""
    try:
        yield
    except StoreUnavailable as error:
        raise ConfigError(f"{error}; {_advice(directory, partition, left)}") from None
    except (Setback, TreeError) as error:
        said = f"partition {partition} was not moved: {error}; {_advice(directory, partition, left)}"
        raise ConfigError(said) from None
    except Corruption as error:
        said = f"partition {partition} was not moved, since its data are not what they must be: {error}"
        proof = "wallet-admin verify says whether its home is sound"
        raise Corruption(f"{said}; {proof}; {_advice(directory, partition, left)}") from None
    except KeyboardInterrupt:
        raise click.ClickException(f"interrupted: {_advice(directory, partition, left)}") from None


def _advice(directory: Directory, partition: int, left: int) -> str:
    rest = f"; then give this command again for the other {left}" if left else ""
    try:
        stored, partition_map = directory.moves.get(partition), directory.partition_map()
    except TreeError:
        return f"see wallet-admin moves, then wallet-admin resume {partition}{rest}"
    home = f"partition {partition} serves on {partition_map.shard_of(partition)}"
    if stored is None:
        return f"{home}, and no move of it is in progress{rest}"
    if stored.move.committed(partition_map):
        return f"{home} already, finish its move with wallet-admin resume {partition}{rest}"
    return f"go on with wallet-admin resume {partition}, or undo it with wallet-admin abort {partition}{rest}"


def answer_outcomes(session: Session, what: str, outcomes: Sequence[Outcome]) -> None:
    """Print the answer of a verb that moved partitions."""
    document = {"what": what, "moved": [outcome_document(outcome) for outcome in outcomes]}

    def show(console: Console) -> None:
        for outcome in outcomes:
            move = outcome.move
            console.print(
                f"partition {move.partition} is on {move.target}, epoch {outcome.epoch}, seq {outcome.seq}: "
                f"{outcome.seconds:.1f} s, frozen for {1000 * outcome.freeze_s:.0f} ms",
                soft_wrap=True,
            )
            if outcome.digest:
                console.print(
                    f"  digest {move.source} {outcome.digest}\n         {move.target} {outcome.digest}  equal"
                )
        console.print(f"{what}: {len(outcomes)} moved" if outcomes else f"{what}: nothing to move")

    session.answer(document, show)


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """One outcome in the document of `--json`."""
    return {
        "partition": outcome.move.partition,
        "from": outcome.move.source,
        "to": outcome.move.target,
        "epoch": outcome.epoch,
        "seq": outcome.seq,
        "digest": outcome.digest or None,
        "freeze_ms": round(1000 * outcome.freeze_s, 1),
        "seconds": round(outcome.seconds, 3),
        "attempts": outcome.attempts,
    }
