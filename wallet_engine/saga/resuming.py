"""Drives money that has left an account to its end, even if another process began the transfer."""

from wallet_engine.domain.operation import Operation
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.engine import Engine
from wallet_engine.saga.capture import Capture
from wallet_engine.saga.refund import Refund
from wallet_engine.saga.transfer import Call, Transfer


def resumable(
    engine: Engine, operation: Operation, receiver: str, p: int, q: int, call: Call, index: int
) -> Transfer:
    """The transfer object that drives an applied debit, capture or refund to its end."""
    words = (operation.account, receiver, operation.amount_minor, operation.currency, operation.id)
    command = TransferCommand(*words, operation.note, operation.by)
    if operation.kind == "q":
        return Capture(engine, command, p, q, call, index, operation.other)
    if operation.kind == "z":
        return Refund(engine, command, p, q, call, index, operation.other)
    return Transfer(engine, command, p, q, call, index)
