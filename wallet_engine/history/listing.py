"""The query of a page of an account's transactions."""

from dataclasses import dataclass
from typing import Any, Final

from wallet_engine.domain.ids import is_system
from wallet_engine.history.database import time_of
from wallet_engine.history.edges import ORDER
from wallet_engine.history.sink import SINK
from wallet_engine.routing.homes import Homes

#: How far the tables reach: for so many partitions, of which nobody may have followed some yet, and for one.
COMPLETE: Final = f"SELECT CASE WHEN count(*) >= {{}} THEN min(at) END FROM positions WHERE sink = '{SINK}'"
COMPLETE_OF: Final = f"SELECT at FROM positions WHERE sink = '{SINK}' AND partition = {{}}"


@dataclass(frozen=True, slots=True)
class Listing:
    """A query for an account's transactions. Amounts in minor units; empty or None: no filter."""

    account: str
    currency: str | None = None
    types: tuple[str, ...] = ()
    direction: str | None = None
    status: str = "success"
    counterparty: str | None = None
    reference: str | None = None
    amount_min: int | None = None
    amount_max: int | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    ascending: bool = False
    limit: int = 50
    #: The `ORDER` values of the caller's last row.
    after: tuple[int, ...] | None = None


def between(conditions: list[str], arguments: list[Any], from_ms: int | None, to_ms: int | None) -> None:
    for sign, moment in ((">=", from_ms), ("<", to_ms)):
        if moment is not None:
            arguments.append(time_of(moment))
            conditions.append(f"at {sign} ${len(arguments)}")


def query_of(asked: Listing, before_ms: int | None, homes: Homes) -> tuple[str, list[Any]]:
    """The query of a page and its arguments. It gives one row more, each with how far the tables reach."""
    arguments: list[Any] = [asked.account]
    conditions = ["account = $1"]
    between(conditions, arguments, asked.from_ms, asked.to_ms)

    def put(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    if asked.currency is not None:
        conditions.append(f"currency = {put(asked.currency)}")
    if asked.direction == "in":
        conditions.append("delta > 0")
    elif asked.direction == "out":
        conditions.append("delta <= 0")
    if before_ms is not None:
        conditions.append(f"at < {put(time_of(before_ms))}")
    told = [f"type = ANY({put(list(asked.types))})"]
    if asked.status != "all":
        told.append(f"status = {put(asked.status)}")
    for column, value in (("counterparty", asked.counterparty), ("reference", asked.reference)):
        if value is not None:
            told.append(f"{column} = {put(value)}")
    for sign, minor in ((">=", asked.amount_min), ("<=", asked.amount_max)):
        if minor is not None:
            told.append(f"amount {sign} {put(minor)}")
    conditions.append(f"(type = '' OR ({' AND '.join(told)}))")
    if asked.after is not None:
        sign = ">" if asked.ascending else "<"
        values = ", ".join([put(time_of(asked.after[0])), *map(put, asked.after[1:])])
        conditions.append(f"({', '.join(ORDER)}) {sign} ({values})")
    order = ", ".join(name if asked.ascending else f"{name} DESC" for name in ORDER)
    if is_system(asked.account):
        complete = COMPLETE.format(homes.partitions)
    else:
        complete = COMPLETE_OF.format(put(homes.of(asked.account)))
    where = " AND ".join(conditions)
    return (
        f"SELECT *, ({complete}) AS as_of FROM postings WHERE {where} ORDER BY {order} LIMIT {asked.limit + 1}",
        arguments,
    )
