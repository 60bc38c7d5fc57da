"""Lets batches take turns, so that no caller waits behind another's large batches.

Reading a batch can block the process for milliseconds, so it needs a turn: each round of the event loop has
one turn, and callers get it round robin. A lone caller needs no turn for a batch that is read quickly. The
transfers of a batch go into the engine in slices, as many as the window has room for. The window is wide
while the caller is alone, and narrow while others make small calls, which then find at most that much ahead
of them. A caller with little in flight does not wait.
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

#: Transfers of batches in the engine at a time: enough to keep every process busy.
WINDOW_WIDE: Final = 8_000
#: The same while another caller makes small calls.
WINDOW_NARROW: Final = 300
#: Transfers that go into the engine together.
SLICE_WIDE: Final = 1_000
SLICE_NARROW: Final = 100
#: A caller with at most this many transfers in flight does not wait for others.
LITTLE_MAX: Final = 100
#: If one caller has this many transfers read but not done, no more are read while others are present.
READ_AHEAD_MAX: Final = 10_000
#: Maximum bytes of a body that is read without a turn while no other caller is present, and of all such
#: bodies in one round: a few milliseconds. What is read in one round goes out together, so one script call
#: serves much of it.
AT_ONCE_BYTES_MAX: Final = 512 * 1024
ROUND_BYTES_MAX: Final = 3 * 1024 * 1024
#: Maximum bytes of bodies that wait for their turn, and one caller's part of it while others are present.
WAITING_BYTES_MAX: Final = 256 * 1024 * 1024
PART_OF_ONE: Final = 0.5
#: How long a batch may wait until its last slice goes into the engine.
WAIT_S_MAX: Final = 15.0

Start = Callable[[Sequence[TransferCommand]], Awaitable[list[str]]]


class _Circle:
    """A queue by caller: callers take turns, and each caller's requests go in order."""

    def __init__(self) -> None:
        self._waiting: dict[Share, deque[tuple[int, asyncio.Future[None]]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, share: Share, size: int) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(share, deque()).append((size, future))
        return future

    def next(self, fits: Callable[[Share, int], bool]) -> int | None:
        """Let the next waiting one that fits go on. Returns its size."""
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
        #: Whether a turn is already planned for the next round of the loop.
        self._given = False
        #: Bytes read in this round without a turn.
        self._at_once = 0
        self._bytes: dict[Share, int] = {}
        #: Caller -> transfers of its batches that were taken and are not answered.
        self._taken: dict[Share, int] = {}
        #: Those of them that are in the engine.
        self._inside = 0

    def __repr__(self) -> str:
        taken = sum(self._taken.values())
        return (
            f"<Turns taken={taken} inside={self._inside} waiting={len(self._to_read)}, {len(self._to_go_in)}>"
        )

    async def read(self, share: Share, body_bytes: int, steps: Steps[T]) -> T:
        """Read a body of this size in steps; returns their result. Raises theirs, `Outage`, `RateLimited`."""
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
        """Whether a small body may be read without a turn: no one waits, and no other caller is present."""
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
        """Whether the engine has little left of what was read before for this caller."""
        return self._taken.get(share, 0) < READ_AHEAD_MAX or not self._shares.others_present(share)

    async def carry_out(self, share: Share, commands: Sequence[TransferCommand], start: Start) -> list[str]:
        """The results of `start` for all transfers, by slices.

        Raises `Outage`, `RateLimited`: none was begun.
        """
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
                    await self._turn_to_go_in(share, len(part))
                    running = self._inside_until_done(len(part), start(part))
                    slices.append((len(part), asyncio.create_task(running)))
                    begun += len(part)
        except TimeoutError:
            if not slices:
                raise Outage("overloaded", "the batch waited too long for those before it") from None
        answers = await asyncio.gather(*(task for _, task in slices), return_exceptions=True)
        return _joined(answers, [size for size, _ in slices], len(commands))

    async def _turn_to_go_in(self, share: Share, size: int) -> None:
        """Wait for room in the window. If the wait is given up, the room is given back."""
        self._give()
        turn = self._to_go_in.join(share, size)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # It came in the same round of the loop as the time limit.
                self._left(size)
            raise

    async def _inside_until_done(self, size: int, answer: Awaitable[list[str]]) -> list[str]:
        """The answer of a slice that is in the engine."""
        try:
            return await answer
        finally:
            self._left(size)

    def _left(self, size: int) -> None:
        """This many transfers have left the engine."""
        self._inside -= size
        if self._to_go_in:
            self._give()

    def _slice(self, share: Share) -> int:
        return SLICE_NARROW if self._shares.others_present(share) else SLICE_WIDE

    def _fits(self, share: Share, size: int) -> bool:
        window = WINDOW_NARROW if self._shares.others_present(share) else WINDOW_WIDE
        return not self._inside or self._inside + size <= window

    def _check_part(self, share: Share, table: dict[Share, int], size: int, most: int, what: str) -> None:
        """Raises `Outage` if the total is too much, `RateLimited` if one caller's part is too much."""
        mine, total = table.get(share, 0), sum(table.values())
        if total and total + size > most:
            raise Outage("overloaded", f"{total} {what}")
        if mine and mine + size > most * PART_OF_ONE and self._shares.others_present(share):
            raise RateLimited(f"{mine} {what} of this caller alone")

    def _give(self) -> None:
        """Plan a turn in the next round of the loop."""
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
    """The answers of slices of these sizes; the last may be missing. Raises an `Outage` if all slices did."""
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
