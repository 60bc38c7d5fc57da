"""Batches by turns, so that no caller waits behind another's large batches.

A batch takes a turn to be read, which can take milliseconds in which the process does nothing else: there is one turn
in each round of the event loop, of the callers in a circle. A lone caller needs none for a batch that is soon read. Its
transfers go into the engine in slices, as many as the window has room for: a wide one while the caller is alone, and a
narrow one while others make small calls, which then find at most that much ahead of them. A caller who has little in
flight does not wait.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from wallet_engine.domain.errors import Outage, RateLimited
from wallet_engine.domain.limits import IN_FLIGHT_TRANSFERS_MAX
from wallet_engine.service.api import TransferCommand
from wallet_engine.service.shares import Share, Shares
from wallet_engine.service.steps import Steps, T, at_once

#: Transfers of batches in the engine at a time: enough for every process to be busy.
WINDOW_WIDE: Final = 8_000
#: The same while somebody else makes small calls.
WINDOW_NARROW: Final = 300
#: Transfers that go into the engine together.
SLICE_WIDE: Final = 1_000
SLICE_NARROW: Final = 100
#: Transfers in flight of a caller who does not wait for others.
LITTLE_MAX: Final = 100
#: Transfers of one caller that are read and not done, beyond which no more are read while others are there.
READ_AHEAD_MAX: Final = 10_000
#: Bytes of a body that is read at once while nobody else is there, and of all of them in one round: a few milliseconds.
#: What is read in one round goes out together, so that a call of the script serves much of it.
AT_ONCE_BYTES_MAX: Final = 512 * 1024
ROUND_BYTES_MAX: Final = 3 * 1024 * 1024
#: Bytes of bodies that wait for their turn, and the part of one caller while others are there.
WAITING_BYTES_MAX: Final = 256 * 1024 * 1024
PART_OF_ONE: Final = 0.5
#: How long a batch may wait until its last slice goes into the engine.
WAIT_S_MAX: Final = 15.0

Start = Callable[[Sequence[TransferCommand]], Awaitable[list[str]]]


class _Circle:
    """Waits for something, by callers: each in its turn, of each the one that came first."""

    def __init__(self) -> None:
        self._waiting: dict[Share, deque[tuple[int, asyncio.Future[None]]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, share: Share, size: int) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(share, deque()).append((size, future))
        return future

    def next(self, fits: Callable[[Share, int], bool]) -> int | None:
        """Let the next that fits go on; its size."""
        for share, waiting in self._waiting.items():
            while waiting and waiting[0][1].done():  # given up
                waiting.popleft()
            if not waiting or not fits(share, waiting[0][0]):
                continue
            size, future = waiting.popleft()
            del self._waiting[share]
            if waiting:
                self._waiting[share] = waiting  # behind all others
            future.set_result(None)
            return size
        self._waiting = {share: waiting for share, waiting in self._waiting.items() if waiting}
        return None


class Turns:
    """See the module. Create and use it on one event loop."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._to_read, self._to_go_in = _Circle(), _Circle()
        #: The next round of the loop has somebody's turn already.
        self._given = False
        #: Bytes that were read in this round without a turn.
        self._at_once = 0
        self._bytes: dict[Share, int] = {}
        #: Transfers of batches that were taken and are not answered, by caller.
        self._taken: dict[Share, int] = {}
        #: Those of them that are in the engine.
        self._inside = 0

    def __repr__(self) -> str:
        taken = sum(self._taken.values())
        return (
            f"<Turns taken={taken} inside={self._inside} waiting={len(self._to_read)}, {len(self._to_go_in)}>"
        )

    async def read(self, share: Share, body_bytes: int, steps: Steps[T]) -> T:
        """What comes of the steps in which so large a body is read. Raises what they raise, `Outage`, `RateLimited`."""
        if self._reads_at_once(share, body_bytes):
            return at_once(steps)
        self._check_part(share, self._bytes, body_bytes, WAITING_BYTES_MAX, "bytes of batches wait")
        self._bytes[share] = self._bytes.get(share, 0) + body_bytes
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                while True:
                    await self._turn_to_read(share)
                    try:
                        next(steps)
                    except StopIteration as ended:
                        result: T = ended.value
                        return result
        except TimeoutError:
            raise Outage("overloaded", "the batch waited too long for those before it") from None
        finally:
            _take_off(self._bytes, share, body_bytes)

    def _reads_at_once(self, share: Share, body_bytes: int) -> bool:
        """Whether that little is read without a turn: nobody waits, and nobody else is there."""
        if (
            self._to_read
            or body_bytes > AT_ONCE_BYTES_MAX
            or self._at_once + body_bytes > ROUND_BYTES_MAX
            or self._shares.others_present(share)
        ):
            return False
        if not self._at_once:
            asyncio.get_running_loop().call_soon(self._next_round)
        self._at_once += body_bytes
        return True

    def _next_round(self) -> None:
        self._at_once = 0

    async def _turn_to_read(self, share: Share) -> None:
        if self._given or self._to_read or not self._may_read(share, 0):
            waiting = self._to_read.join(share, 0)
            self._give()
            await waiting
        else:
            self._give()

    def _may_read(self, share: Share, size: int) -> bool:
        """Whether the engine has soon done with what was read before."""
        return self._taken.get(share, 0) < READ_AHEAD_MAX or not self._shares.others_present(share)

    async def carry_out(self, share: Share, commands: Sequence[TransferCommand], start: Start) -> list[str]:
        """What `start` says of all transfers, slice by slice. Raises `Outage` and `RateLimited`: none was begun."""
        size = len(commands)
        if share.in_flight > 1 and share.in_flight + size > share.in_flight_max:  # the request itself is one
            raise RateLimited(f"this key may have {share.in_flight_max} transfers in flight")
        self._check_part(share, self._taken, size, IN_FLIGHT_TRANSFERS_MAX, "transfers are in flight")
        self._taken[share] = self._taken.get(share, 0) + size
        share.in_flight += size
        try:
            if share.in_flight <= LITTLE_MAX:
                share.present_s = time.perf_counter()
                return await start(commands)
            alone = not self._shares.others_present(share)
            if (
                (alone or not self._given)
                and not self._to_go_in
                and size <= self._slice(share)
                and self._fits(share, size)
            ):
                if not alone:
                    self._give()
                self._inside += size
                try:
                    return await start(commands)
                finally:
                    self._left(size)
            return await self._by_slices(share, commands, start)
        finally:
            share.in_flight -= size
            _take_off(self._taken, share, size)
            if self._to_read:
                self._give()

    async def _by_slices(self, share: Share, commands: Sequence[TransferCommand], start: Start) -> list[str]:
        slices: list[tuple[int, asyncio.Task[list[str]]]] = []
        begun = 0
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                while begun < len(commands):
                    part = commands[begun : begun + self._slice(share)]
                    self._give()
                    await self._to_go_in.join(share, len(part))
                    running = self._inside_until_done(len(part), start(part))
                    slices.append((len(part), asyncio.create_task(running)))
                    begun += len(part)
        except TimeoutError:
            if not slices:
                raise Outage("overloaded", "the batch waited too long for those before it") from None
        answers = await asyncio.gather(*(task for _, task in slices), return_exceptions=True)
        return _joined(answers, [size for size, _ in slices], len(commands))

    async def _inside_until_done(self, size: int, answer: Awaitable[list[str]]) -> list[str]:
        """The answer of a slice that is in the engine."""
        try:
            return await answer
        finally:
            self._left(size)

    def _left(self, size: int) -> None:
        """So many have come out of the engine."""
        self._inside -= size
        if self._to_go_in:
            self._give()

    def _slice(self, share: Share) -> int:
        return SLICE_NARROW if self._shares.others_present(share) else SLICE_WIDE

    def _fits(self, share: Share, size: int) -> bool:
        window = WINDOW_NARROW if self._shares.others_present(share) else WINDOW_WIDE
        return not self._inside or self._inside + size <= window

    def _check_part(self, share: Share, table: dict[Share, int], size: int, most: int, what: str) -> None:
        """Raises `Outage` when that is too much for all, `RateLimited` when it is too much of one beside others."""
        mine, total = table.get(share, 0), sum(table.values())
        if total and total + size > most:
            raise Outage("overloaded", f"{total} {what}")
        if mine and mine + size > most * PART_OF_ONE and self._shares.others_present(share):
            raise RateLimited(f"{mine} {what} of this caller alone")

    def _give(self) -> None:
        """The next round of the loop is somebody's."""
        if not self._given:
            self._given = True
            asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        self._given = False
        let_in = self._to_go_in.next(self._fits)
        if let_in is not None:
            self._inside += let_in
        if let_in is not None or self._to_read.next(self._may_read) is not None:
            self._give()


def _take_off(table: dict[Share, int], share: Share, size: int) -> None:
    left = table.get(share, 0) - size
    if left > 0:
        table[share] = left
    else:
        table.pop(share, None)


def _joined(answers: list[list[str] | BaseException], sizes: list[int], size: int) -> list[str]:
    """The answers of slices of these sizes, of which the last may be missing. Raises what all of them have raised."""
    results: list[str] = []
    for answer, part in zip(answers, sizes, strict=True):
        if isinstance(answer, Outage):
            results += [answer.code] * part
        elif isinstance(answer, BaseException):
            raise answer
        else:
            results += answer
    if all(isinstance(answer, Outage) for answer in answers):
        raise next(answer for answer in answers if isinstance(answer, Outage))
    return results + ["overloaded"] * (size - len(results))
