"""Transfers on a real cluster, each answered only when it is durable."""

from collections.abc import Callable, Sequence

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.limits import IN_FLIGHT_TRANSFERS_MAX
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.engine import Engine
from wallet_engine.saga.deadlines import Deadlines
from wallet_engine.saga.transfer import Call, Transfer
from wallet_engine.service.api import ANSWER_TIMEOUT_S, TransferAnswer


class Transfers:
    """The part of `service.api.Wallet` that moves money."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
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

        Past the time limit the call is answered with the results there are; its transfers go on.
        """
        if self.in_flight + len(commands) > IN_FLIGHT_TRANSFERS_MAX:
            raise Outage("overloaded", f"{self.in_flight} transfers are in flight")
        engine = self._engine
        self.in_flight += len(commands)
        call.on_end = self._release
        self._deadlines.add(call)
        issued_s = engine.now_s()
        headroom = engine.headroom
        for index, (command, p, q) in enumerate(zip(commands, homes, targets, strict=True)):
            try:
                if headroom.wary:
                    headroom.check(p, q)
                Transfer(engine, command, p, q, call, index).start(issued_s)
            except Outage as outage:
                call.finish(index, outage.code)

    def _release(self, call: Call) -> None:
        self.in_flight -= len(call.results)
        self._deadlines.discard(call)


def _single_answer(call: Call) -> TransferAnswer | Outage:
    result = call.results[0]
    if len(result) == 1:
        return TransferAnswer(result, call.replayed)
    if result in ("", "outcome_unknown"):
        return Outage("outcome_unknown", "the transfer is not confirmed: retry it with the same id")
    return Outage(result, "nothing was done: retry it with the same id")
