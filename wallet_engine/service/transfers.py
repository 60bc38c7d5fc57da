"""Transfers on a real cluster, each answered only when it is durable."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count, repeat

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.limits import IN_FLIGHT_TRANSFERS_MAX
from wallet_engine.domain.operation import Words
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.together import submit_all
from wallet_engine.saga.deadlines import Deadlines
from wallet_engine.saga.transfer import CONFLICT, Call, Transfer
from wallet_engine.service.api import ANSWER_TIMEOUT_S, OF_RECEIVER, TransferAnswer, outage_detail
from wallet_engine.service.repeats import Repeats
from wallet_engine.service.sides import side_refused


class Transfers:
    """The part of `service.api.Wallet` that moves money."""

    def __init__(self, engine: Engine, repeats: Repeats) -> None:
        self._engine = engine
        #: Whether each operation must be submitted by itself, to be traced (`engine/traced.py`).
        self._one_by_one = type(engine) is not Engine
        self._repeats = repeats
        #: Tasks that look up transfers which may not begin.
        self._looking: set[asyncio.Task[None]] = set()
        self._deadlines = Deadlines(ANSWER_TIMEOUT_S)
        #: Transfers that were accepted and have not ended.
        self.in_flight = 0

    def __repr__(self) -> str:
        return f"<Transfers in_flight={self.in_flight}>"

    async def transfer(self, command: TransferCommand) -> TransferAnswer:
        call, answered = Call.awaited(1)
        self._start_single(command, call)
        await answered
        answer = _single_answer(call)
        if isinstance(answer, Outage):
            raise answer
        return answer

    def begin_transfer(
        self, command: TransferCommand, answer: Callable[[TransferAnswer | Outage], None]
    ) -> None:
        try:
            self._start_single(command, Call(1, lambda call: answer(_single_answer(call))))
        except Outage as outage:
            answer(outage)

    async def transfer_many(self, commands: Sequence[TransferCommand]) -> list[str]:
        if not commands:
            return []
        call, answered = Call.awaited(len(commands))
        self._start(commands, *self._engine.cluster.homes.of_sides(commands), call)
        await answered
        return [result or "outcome_unknown" for result in call.results]

    def _start_single(self, command: TransferCommand, call: Call) -> None:
        homes = self._engine.cluster.homes
        p = homes.of_payer(command[0], command[4])
        self._start((command,), (p,), (homes.of_receiver(command[1], p),), call)

    def _start(
        self, commands: Sequence[TransferCommand], homes: Sequence[int], targets: Sequence[int], call: Call
    ) -> None:
        """`homes` and `targets` are the partitions of payers and receivers.

        After the time limit the call is answered with the present results; its transfers go on.
        """
        if self.in_flight + len(commands) > IN_FLIGHT_TRANSFERS_MAX:
            raise Outage("overloaded", f"{self.in_flight} transfers are in flight")
        engine = self._engine
        self.in_flight += len(commands)
        call.on_end = self._release
        self._deadlines.add(call)
        issued_s = engine.now_s()
        headroom = engine.headroom
        if headroom.wary or self._one_by_one or len(commands) < engine.cluster.homes.partitions:
            for index, (command, p, q) in enumerate(zip(commands, homes, targets, strict=True)):
                if headroom.wary and self._is_refused(command, p, q, call, index):
                    continue
                try:
                    Transfer(engine, command, p, q, call, index).start(issued_s)
                except Outage as outage:
                    call.finish(index, outage.code)
            return
        transfers = list(map(Transfer, repeat(engine), commands, homes, targets, repeat(call), count()))
        operations: list[Words] = [
            ("t" if p == q else "d", transaction, sender, receiver, amount, currency, note, by)
            for (sender, receiver, amount, currency, transaction, note, by), p, q in zip(
                commands, homes, targets, strict=True
            )
        ]
        submit_all(engine, homes, operations, transfers, issued_s)

    def _is_refused(self, command: TransferCommand, p: int, q: int, call: Call, index: int) -> bool:
        """Whether no new work may begin; then the transfer ends with its remembered answer or a refusal."""
        refused = side_refused(self._engine.headroom, p, q)
        if refused is None:
            return False
        outage, of_receiver = refused
        result = outage.code + OF_RECEIVER if of_receiver else outage.code
        task = asyncio.create_task(self._look_up(command, p, call, index, result))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)
        return True

    async def _look_up(self, command: TransferCommand, p: int, call: Call, index: int, refused: str) -> None:
        sender, receiver, amount, currency, transaction, note, by = command
        result = "outcome_unknown"
        try:
            words = ("t", transaction, sender, receiver, amount, currency, note, by)
            found = await self._repeats.outcome_of(p, words)
            call.replayed = call.replayed or (found is not None and found != CONFLICT)
            result = found or refused
        finally:
            call.finish(index, result)

    def _release(self, call: Call) -> None:
        self.in_flight -= len(call.results)
        self._deadlines.discard(call)


def _single_answer(call: Call) -> TransferAnswer | Outage:
    result = call.results[0]
    if len(result) == 1:
        return TransferAnswer(result, call.replayed, call.position)
    result = result or "outcome_unknown"
    return Outage(result.removesuffix(OF_RECEIVER), outage_detail(result))
