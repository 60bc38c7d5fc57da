"""Re-executes recorded entries through the apply script, pipelined; outcomes must equal the recorded ones (G6)."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from wallet_engine.domain.columns import Packed, pack
from wallet_engine.domain.entry import EntryHeader, check_rules, operations_of, parse_header
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.operation import Operation
from wallet_engine.recovery.hands import Hands, Overtaken
from wallet_engine.redis_store.apply_call import replay_command
from wallet_engine.redis_store.scripts import load_script

#: Script calls in flight during a replay.
CALLS_IN_FLIGHT_MAX: Final = 256
#: Operations packed into calls in one turn of the event loop: one or two milliseconds.
OPERATIONS_AT_ONCE_MAX: Final = 400

DIFFERENCE_CHARS_MAX: Final = 400

_SHA: Final = load_script("apply", replay=True).sha


class Replayer:
    """Feeds entries of one partition, in order, to the replay variant of the script.

    The partition must be in `hands` and exactly before the first entry given. `currencies` are those that
    its meta names. `entries` and `operations` count what was replayed. If the outcomes of an entry differ
    from the record, neither it nor any later entry changes Redis, and `differs` says which entry and how.
    `overtaken`: the partition is no longer in these hands, and nothing more is replayed.
    """

    def __init__(self, hands: Hands, currencies: str, *, limits: bool = False) -> None:
        """`limits`: some account of the partition has a maximum balance."""
        self._connection = hands.connection
        self._partition = hands.partition
        self._keys = hands.keys
        self._epoch = b"%d" % hands.epoch
        self._currencies = set(filter(None, currencies.split(",")))
        #: If true, calls also name the keys of held money.
        self._limits = limits
        self._failure: Exception | None = None
        self.differs = ""
        self.overtaken: Overtaken | None = None
        self._at_once = 0
        self.entries = 0
        self.operations = 0

    async def replay(self, payload: bytes) -> None:
        """Send one entry, unless an earlier one was not taken. Raises `NewerFormat`, and what `finish` raises."""
        self._raise_failure()
        if self.differs or self.overtaken:
            return
        try:
            header = parse_header(payload)
            check_rules(header)
            operations = operations_of(payload)
            packed = pack(operations)
            self._limits = self._limits or packed.limits
            command = self._command(header, packed._replace(extended=packed.extended or self._limits))
        except (Corruption, KeyError) as error:
            self.differs = f"it cannot be read: {error}"
            return
        self._connection.send(command, partial(self._check, header, operations))
        self.entries += 1
        self.operations += len(header.outcomes)
        self._at_once += len(header.outcomes)
        if self._at_once >= OPERATIONS_AT_ONCE_MAX:
            self._at_once = 0
            await asyncio.sleep(0)
        while self._connection.in_flight >= CALLS_IN_FLIGHT_MAX:
            await asyncio.sleep(0)

    async def finish(self) -> None:
        """Wait for every answer. Raises the error of the connection, if there was one."""
        await self._connection.call("PING")
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _command(self, header: EntryHeader, packed: Packed) -> bytes:
        self._currencies |= packed.currencies
        return replay_command(
            *(_SHA, self._keys, self._currencies, packed),
            (
                header.prev_nonce.encode(),
                b"%d" % header.time_ms,
                header.outcomes.encode(),
                b"%d" % header.rules,
                b"" if header.witnessed_s is None else b"%d" % header.witnessed_s,
                self._epoch,
            ),
            epoch=header.epoch,
            nonce=header.nonce,
            window=header.window,
        )

    def _check(self, header: EntryHeader, operations: Sequence[Operation], reply: Any) -> None:
        if self._failure is not None or self.differs or self.overtaken:
            return
        if isinstance(reply, Exception) and not _is_of_script(reply):
            self._failure = reply
        elif type(reply) is list and reply[0] in (b"STATE", b"EPOCH"):
            # A node that lost its data, or that another recovery has, proves nothing.
            self.overtaken = Overtaken(f"partition {self._partition} has changed while it was replayed")
        elif type(reply) is not bytes or reply.partition(b"\n")[0] != header.text().encode():
            self.differs = f"entry {header.seq}: {_difference(header, operations, reply)}"


def _is_of_script(error: Exception) -> bool:
    """Whether the script itself failed, for example on a senseless operation, and not Redis around it."""
    words = str(error)
    around = ("OOM", "MISCONF", "READONLY", "can't run this command")  # the last: a right that our user lacks
    return "user_script" in words and not any(said in words for said in around)


def _difference(header: EntryHeader, operations: Sequence[Operation], reply: Any) -> str:
    if type(reply) is list and reply[0] == b"DIFFERS":
        outcomes = reply[1].decode()
        for idx, (came_out, recorded) in enumerate(zip(outcomes, header.outcomes, strict=False)):
            if came_out != recorded:
                line = operations[idx].line()[:DIFFERENCE_CHARS_MAX]
                return f"operation {idx} must come out as {came_out!r}, recorded is {recorded!r}: {line}"
    return f"replay gave {reply!r}, recorded is {header.text()!r}"[:DIFFERENCE_CHARS_MAX]
