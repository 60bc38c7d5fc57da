"""Holds that have expired and are not released."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import redis

from wallet_engine.admin.diagnosis.finding import Finding
from wallet_engine.admin.diagnosis.mends import Mend, by_hand, wallet_admin
from wallet_engine.domain import holds
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.ids import unpack_transaction_id
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.domain.memory import PAYER_LENGTH
from wallet_engine.redis_store.keys import PartitionKeys

if TYPE_CHECKING:
    from wallet_engine.admin.diagnosis.examination import Facts

#: API processes release an expired hold within 5 s.
OVERDUE_MS_WARN: Final = 60_000
#: Holds of one partition that are looked at.
LOOKED_AT_MAX: Final = 100


class OverdueHold(NamedTuple):
    """A hold without a capture under way. `fits`: whether its rest and what is available stay in range together."""

    account: str
    hold_id: str
    fits: bool


def overdue_holds(client: redis.Redis, keys: PartitionKeys, now_ms: int) -> tuple[OverdueHold, ...]:
    """Those of a partition that expired over a minute ago; `now_ms` is the time of its Redis node."""
    due = client.zrangebyscore(keys.due, "-inf", now_ms - OVERDUE_MS_WARN, start=0, num=LOOKED_AT_MAX)
    fields = [str(field) for field in due]
    if not fields:
        return ()
    found = []
    for field, record in zip(fields, client.hmget(keys.hold, fields), strict=True):
        try:
            hold = holds.parse_hold(str(record or ""))
        except Corruption:
            continue  # verify names it
        if hold.status == holds.OPEN and hold.busy == holds.NOBODY:
            available = int(client.hget(keys.balance(hold.currency), hold.account) or 0)
            hold_id = unpack_transaction_id(field[:-PAYER_LENGTH])
            found.append(OverdueHold(hold.account, hold_id, available + hold.remaining <= AMOUNT_MINOR_MAX))
    return tuple(found)


def overdue(facts: "Facts") -> Iterator[Finding]:
    """every hold is released when it has expired"""
    late = [hold for partition in facts.partitions.values() for hold in partition.overdue_holds]
    full = [hold for hold in late if not hold.fits]
    if full:
        first = full[0]
        what = f"{len(full)} expired holds cannot be released, such as {first.hold_id} of {first.account}: "
        what += "with what is available there would be more than the largest balance"
        mend = Mend(
            wallet_admin("hold", first.hold_id, "--account", first.account),
            "pay some of what is available out of the account; the hold is then released by itself",
        )
        yield Finding("holds", "warning", what, mend)
    if len(full) < len(late):
        first = next(hold for hold in late if hold.fits)
        what = f"{len(late) - len(full)} holds expired over a minute ago and are not released, such as "
        what += f"{first.hold_id} of {first.account}: every API process should release them"
        yield Finding("holds", "warning", what, by_hand("see the findings about services and partitions"))
