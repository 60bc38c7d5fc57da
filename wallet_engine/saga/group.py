"""One group: which operations it takes, in which order, and when its caller is answered.

Inside one partition it is one operation. Across several: `prepare` in all partitions but the home, durable;
`decide` at the home, durable; `commit` or `abort` in the others, durable; answer. No part is told to commit
before the decision is durable. The first decision counts for every driver of the group: a caller's retry,
another process with the same id, the sweeper.

An interrupted attempt is over: all parts first give back what it set aside, and then another attempt begins.

Home and parts forget at different times, each by its own windows. A part that had forgotten a group would set its
money aside anew, and home's old decision would pay it again. So home is asked first, and no part prepares a group that
home knows. If home has forgotten a group and a part has not, that part says that it was paid, and so it was
everywhere: home forgets no group whose parts must still pay. Then this attempt is void, and the caller is told that the
group was paid.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from wallet_engine.domain.errors import InvalidInput, Outage
from wallet_engine.domain.group_commands import GroupAnswer, GroupCommand
from wallet_engine.domain.groups import (
    BOTH_HERE,
    COMMIT,
    COMMITTED,
    ELSEWHERE,
    INTERRUPT,
    NONE,
    PARTITIONS_MAX,
    PAYER_HERE,
    PREPARED,
    RECEIVER_HERE,
    Leg,
    refused_elsewhere,
    words,
)
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.operation import Words
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.positions import positions_noted
from wallet_engine.engine.reads import Reader
from wallet_engine.routing.homes import Homes

#: How many attempts a group makes if attempts are interrupted.
ATTEMPTS_MAX: Final = 8
#: How long the home waits before it forgets a group, so that this goes with other operations.
FORGET_AFTER_S: Final = 0.1

_APPLIED: Final = Outcome.APPLIED.value
_REPEATED: Final = Outcome.REPEATED.value
_CONFLICT: Final = Outcome.CONFLICT.value
_INTERRUPTED: Final = Outcome.INTERRUPTED.value


class Parts(NamedTuple):
    """The partitions of a group: partition -> its legs there; the home has all legs."""

    home: int
    legs: Mapping[int, tuple[Leg, ...]]

    @property
    def others(self) -> list[int]:
        return [partition for partition in self.legs if partition != self.home]


class Decided(NamedTuple):
    """Outcome of an operation, and the details that the script returned."""

    outcome: str
    told: list[str]


class _Step:
    """Waits for one operation of a group."""

    __slots__ = ("future", "positions")

    def __init__(self) -> None:
        self.positions = positions_noted()
        self.future: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        self.positions[batch.partition] = batch.entry
        if not self.future.done():
            self.future.set_result(Decided(outcome, batch.detail(idx)))

    def failed(self, outage: Outage) -> None:
        if not self.future.done():
            self.future.set_exception(outage)


def parts_of(homes: Homes, payer: str, transaction: str, transfers: Sequence[TransferCommand]) -> Parts:
    """The partitions of a group that this payer names. Raises `InvalidInput` for too many partitions.

    A system account is in every partition. The one where it pays does not count, as only the id chooses it.
    """
    home = homes.of_payer(payer, transaction)
    payers, receivers = homes.of_sides(transfers)
    legs: dict[int, list[Leg]] = {home: []}
    for idx, (transfer, p, q) in enumerate(zip(transfers, payers, receivers, strict=True)):
        said = (idx, *transfer[:4])
        roles = {p: BOTH_HERE} if p == q else {p: PAYER_HERE, q: RECEIVER_HERE}
        for partition, role in ({home: ELSEWHERE} | roles).items():
            legs.setdefault(partition, []).append(Leg(role, *said))
    if len(legs) > PARTITIONS_MAX:
        accounts = {account for transfer in transfers for account in transfer[:2] if not is_system(account)}
        reached = len({homes.of(account) for account in accounts})
        if reached > PARTITIONS_MAX:
            raise InvalidInput(
                "invalid_request",
                f"the accounts of a group are in at most {PARTITIONS_MAX} partitions, not in {reached}",
            )
    return Parts(home, {partition: tuple(found) for partition, found in legs.items()})


class GroupDriver:
    """Sends the operations of one group; `mark` is that of its body, `by` the key that asked for it."""

    def __init__(
        self, engine: Engine, payer: str, transaction: str, mark: str, note: str = "", by: str = ""
    ) -> None:
        self.engine = engine
        self._payer = payer
        self._transaction = transaction
        self._mark = mark
        self._note = note
        self._by = by

    async def send(
        self,
        kind: str,
        partition: int,
        attempt: int,
        legs: Sequence[Leg] = (),
        word: str = NONE,
        issued_s: float | None = None,
    ) -> Decided:
        """Send one operation; returns when it is decided and durable. Raises `Outage`."""
        step = _Step()
        issued = self.engine.now_s() if issued_s is None else issued_s
        self.engine.submit(partition, self._words(kind, attempt, legs, word), step, issued)
        return await step.future

    async def tell(self, kind: str, parts: Parts, attempt: int, issued_s: float) -> bool:
        """Commit or abort in all partitions but the home. Returns whether all of them did it.

        `issued_s` is before home was asked: what a service that was stopped meanwhile says of an earlier use of the
        id must not reach a later one.
        """
        sent = (self.send(kind, p, attempt, parts.legs[p], NONE, issued_s) for p in parts.others)
        found = await asyncio.gather(*sent, return_exceptions=True)
        for result in found:
            if isinstance(result, BaseException) and not isinstance(result, Outage):
                raise result
        return all(
            isinstance(result, Decided) and result.outcome in (_APPLIED, _REPEATED) for result in found
        )

    def _words(self, kind: str, attempt: int, legs: Iterable[Leg], word: str) -> Words:
        other = words(self._mark, attempt, word, legs)
        # Only the decision has the note: so a refused group needs one entry, and the note is stored once.
        note = self._note if kind in "mg" else ""
        return (kind, self._transaction, self._payer, other, 0, "-", note, self._by)


class Group:
    """One group on its way; its caller may have left."""

    def __init__(self, engine: Engine, reader: Reader, command: GroupCommand, parts: Parts) -> None:
        self._engine = engine
        self._reader = reader
        self._parts = parts
        self._field, self._mark = transfer_field(command.payer, command.transaction), command.mark()
        self._driver = GroupDriver(
            engine, command.payer, command.transaction, self._mark, command.note, command.by
        )

    def __repr__(self) -> str:
        return f"<Group home={self._parts.home} parts={len(self._parts.legs)}>"

    async def run(self) -> GroupAnswer:
        """Drive the group to its end. Raises `Outage`; `outcome_unknown` if the group may still happen."""
        if not self._parts.others:
            home = self._parts.home
            outcome, told = await self._driver.send("m", home, 0, self._parts.legs[home], COMMIT)
            return _answer(outcome, told)
        asked_s, ended = self._engine.now_s(), await self._known()
        for _ in range(ATTEMPTS_MAX):
            if isinstance(ended, GroupAnswer):
                return ended
            now_s = self._engine.now_s()
            ended = await self._attempt(ended, asked_s)
            asked_s = now_s
        if isinstance(ended, GroupAnswer):
            return ended
        raise Outage("outcome_unknown", "the group was interrupted again and again: repeat the request")

    async def _known(self) -> GroupAnswer | int:
        """The answer that home remembers, or the number of the attempt to make. Raises `Outage`."""
        asked_s = self._engine.now_s()
        if not await self._reader.is_decided(self._parts.home, self._field, self._mark):
            return 0
        return await self._decide(0, INTERRUPT, (), None, asked_s)

    async def _attempt(self, attempt: int, issued_s: float) -> GroupAnswer | int:
        """The answer, or the number of the next attempt. `issued_s` is before home was asked what it knows."""
        parts, driver = self._parts, self._driver
        prepared = await asyncio.gather(
            *(driver.send("p", p, attempt, parts.legs[p], NONE, issued_s) for p in parts.others),
            return_exceptions=True,
        )
        word, outage, over = COMMIT, None, set[str]()
        refusals: list[tuple[int, bool, str]] = []
        for partition, result in zip(parts.others, prepared, strict=True):
            if isinstance(result, Outage):
                outage = result
            elif isinstance(result, BaseException):
                raise result
            elif result.outcome == _REPEATED:
                status, made_in = result.told[:2]
                # Money that an earlier attempt set aside is given back: it does not count for this attempt.
                if status != PREPARED or int(made_in) != attempt:
                    over.add(status)
            elif result.outcome != _APPLIED:
                leg = int(result.told[1])
                refusals.append((leg, not _pays(parts.legs[partition], leg), result.outcome))
        if over:  # the home knows how it ended, or has forgotten it
            word, outage = INTERRUPT, None
        elif refusals:
            leg, _, code = min(refusals)
            word = refused_elsewhere(leg, code)
        elif outage is not None:
            word = INTERRUPT
        legs = parts.legs[parts.home] if word != INTERRUPT else ()
        ended = await self._decide(attempt, word, legs, outage, issued_s)
        return GroupAnswer(_APPLIED, True) if isinstance(ended, int) and COMMITTED in over else ended

    async def _decide(
        self, attempt: int, word: str, legs: Sequence[Leg], outage: Outage | None, issued_s: float
    ) -> GroupAnswer | int:
        parts, driver = self._parts, self._driver
        try:
            outcome, told = await driver.send("g", parts.home, attempt, legs, word, issued_s)
        except Outage as failed:
            # It may be decided, or money that was set aside waits for a decision: the sweeper ends it.
            raise Outage("outcome_unknown", failed.detail) from None
        decision = told[0] if outcome == _REPEATED else outcome
        if decision == _APPLIED:
            made_in = int(told[2]) if outcome == _REPEATED else attempt
            if not await driver.tell("y", parts, made_in, issued_s):
                raise Outage("outcome_unknown", "the group is decided and not yet paid everywhere: retry it")
            self._forget(issued_s)
            return _answer(outcome, told)
        await self._abort(attempt, issued_s)
        if decision != _INTERRUPTED:
            return _answer(outcome, told)
        if outage is not None:  # also if a part's outcome was not known, this decision ends it
            code = "partition_unavailable" if outage.code == "outcome_unknown" else outage.code
            raise Outage(code, f"{outage.detail}; nothing of the group was done: retry it")
        return int(told[2]) + 1

    async def _abort(self, attempt: int, issued_s: float) -> None:
        """Tell the parts that the home decided against it. The sweeper ends a part that cannot be told."""
        await self._driver.tell("b", self._parts, attempt, issued_s)

    def _forget(self, issued_s: float) -> None:
        asyncio.get_running_loop().call_later(FORGET_AFTER_S, self._send_forget, issued_s)

    def _send_forget(self, issued_s: float) -> None:
        task = asyncio.ensure_future(self._driver.send("w", self._parts.home, 0, (), NONE, issued_s))
        task.add_done_callback(_heed)


def _pays(legs: Sequence[Leg], idx: int) -> bool:
    return any(leg.idx == idx and leg.payer_here for leg in legs)


def _answer(outcome: str, told: Sequence[str]) -> GroupAnswer:
    """The answer for an outcome; `told` are the details of a refusal or a repeat."""
    if outcome in (_APPLIED, _CONFLICT):
        return GroupAnswer(outcome)
    decision, leg, _ = told
    return GroupAnswer(decision, outcome == _REPEATED, None if leg == NONE else int(leg))


def _heed(task: "asyncio.Task[Decided]") -> None:
    """Ignore the failure of an operation at the home: the sweeper finds the group there."""
    if not task.cancelled():
        task.exception()
