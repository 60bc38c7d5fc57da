"""The handlers that read the history store: the past of an account, and transfers by their reference."""

import csv
import io
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec
from msgspec import UNSET

from wallet_engine.domain.holds import STATUS_WORDS, receiver_in
from wallet_engine.domain.ids import TRANSIT, check_account_id, is_system
from wallet_engine.domain.money import check_currency, format_amount
from wallet_engine.domain.notes import REFERENCE, said_in
from wallet_engine.domain.times import time_text
from wallet_engine.history.database import ms_of
from wallet_engine.history.edges import NotKept
from wallet_engine.history.reader import AsOf, Statement, place_of
from wallet_engine.http import wire, wire_past
from wallet_engine.http.endpoint import Endpoint, Request
from wallet_engine.http.parse_history import (
    PLACE,
    choice,
    cursor_of,
    filters_of,
    limit_of,
    listing_of,
    make_cursor,
    positions_of,
    reference_of,
    span_of,
)
from wallet_engine.http.problems import MALFORMED, OUTAGE_CODES, Answer, Refused, json_answer, stream_answer
from wallet_engine.service.history import GuardedHistory

#: Status as callers see it -> its letter in a record.
_HOLD_LETTERS: Final = {word: letter for letter, word in STATUS_WORDS.items()}
#: Bounds of the numbers in cursors of holds: time of placing, and the two halves of the id.
_HOLD_PLACE: Final = (PLACE[0], 2**64, 2**64)
_CSV_HEAD: Final = (
    *("at", "type", "status", "transaction_id", "amount", "currency", "counterparty", "balance_after"),
    *("reference", "partition", "seq"),
)
#: A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection"); and the sign that prevents it.
_FORMULA_SIGNS: Final = (*"=+-@", *"\uff1d\uff0b\uff0d\uff20", "'")
CODES: Final = ("history_not_configured", "history_unavailable", "history_behind")


def history_of(request: Request) -> GuardedHistory:
    """The history. Raises `Refused` when none is configured."""
    history = request.services.history
    if history is None:
        raise Refused("history_not_configured", "this process was started without --database")
    return history


def _account_of_path(request: Request) -> str:
    """The account whose past is asked for. Raises `Refused` for `@transit`: its money is that of pending transfers."""
    return _not_transit(check_account_id(request.path("account_id")))


def _not_transit(account: str) -> str:
    if account == TRANSIT:
        said = (
            f"the history has nothing of {TRANSIT}: wallet-admin balance --at reads its past from the journal"
        )
        raise Refused("account_not_found", said)
    return account


async def transactions(request: Request) -> Answer:
    """An account's transactions, newest first unless asked otherwise."""
    account = _account_of_path(request)
    asked, positions = listing_of(request, account), positions_of(request)
    page = await history_of(request).transactions(request.visit.principal, asked, positions)
    if page is None:
        raise _unknown_account()
    cursor = make_cursor(filters_of(asked), place_of(page.rows[-1])) if page.more else None
    body = wire_past.Transactions([_transaction(row) for row in page.rows], cursor, _as_of(page.as_of))
    return json_answer(200, wire.encode(body))


async def balance_at(request: Request, account: str, currency: str, at_ms: int) -> Answer:
    """The balance at a past time."""
    by, positions = request.visit.principal, positions_of(request)
    _not_transit(account)
    try:
        rows, as_of = await history_of(request).balance_at(by, account, currency, at_ms, positions)
    except NotKept:
        raise Refused("history_expired", "the rows of that time were detached from the history") from None
    if not rows and account[:1] != "@":
        raise Refused("account_not_found", "the account, or its balance in this currency, was not open then")
    sums = {name: sum(row[name] for row in rows) for name in ("balance", "available", "held", "pending")}
    alone = rows[0] if account[:1] != "@" else None
    body = wire_past.PastBalance(
        account_id=account,
        currency=currency,
        **{name: format_amount(minor, currency) for name, minor in sums.items()},
        partition=None if alone is None else alone["partition"],
        seq=None if alone is None else alone["seq"],
        at=time_text(at_ms),
        as_of=_as_of(as_of),
    )
    return json_answer(200, wire.encode(body))


async def statement(request: Request) -> Answer:
    """The changes of a balance, from its opening to its closing balance; streamed while they are read."""
    account = _account_of_path(request)
    currency = check_currency(request.query("currency"))
    span, positions = span_of(request), positions_of(request)
    as_csv = choice(request, "format", ("json", "csv")) == "csv"
    history = history_of(request)
    async with AsyncExitStack() as stack:
        entered = history.statement(request.visit.principal, account, currency, span, positions)
        try:
            found = await stack.enter_async_context(entered)
        except NotKept:
            said = "rows at the beginning of the period were detached from the history: give a later from, or none"
            raise Refused("history_expired", said) from None
        if found is None:
            raise _unknown_account()
        write = _as_csv if as_csv else _as_json
        chunks = write(found, account, currency, span)
        first = await anext(chunks)  # an error up to here becomes a problem; later ones cut off the answer
        kept = stack.pop_all()

    async def stream() -> AsyncGenerator[bytes, None]:
        async with kept:
            yield b""
            yield first
            async for chunk in chunks:
                yield chunk

    told = stream()
    await anext(told)  # one that has not begun would not give back its connection when it is closed
    as_of = (b"wallet-as-of", time_text(found.as_of.at_ms).encode())
    return stream_answer(b"text/csv; charset=utf-8" if as_csv else b"application/json", told, (as_of,))


async def holds(request: Request) -> Answer:
    """An account's holds, newest first, including those that ended long ago."""
    account = check_account_id(request.path("account_id"))
    status = choice(request, "status", tuple(_HOLD_LETTERS))
    limit, positions = limit_of(request), positions_of(request)
    filters = [account, status]
    after = cursor_of(request, filters, _HOLD_PLACE)
    letter = None if status is None else _HOLD_LETTERS[status]
    by = request.visit.principal
    page = await history_of(request).holds(by, account, letter, limit, after, positions)
    if page is None:
        raise _unknown_account()
    cursor = None
    if page.more:
        last = page.rows[-1]
        number = last["hold_id"].int
        cursor = make_cursor(filters, (ms_of(last["placed_at"]), number >> 64, number & (2**64 - 1)))
    body = wire_past.Holds([_hold(row) for row in page.rows], cursor, _as_of(page.as_of))
    return json_answer(200, wire.encode(body))


async def transfers(request: Request) -> Answer:
    """Transfers with a reference, newest first."""
    reference = reference_of(request)
    if reference is None:
        raise Refused("invalid_request", "query parameter reference is missing")
    span, limit, positions = span_of(request), limit_of(request), positions_of(request)
    filters = [reference, *span]
    after = cursor_of(request, filters, PLACE)
    by = request.visit.principal
    page = await history_of(request).transfers(by, reference, span, limit, after, positions)
    cursor = None
    if page.more:
        last = page.rows[-1]
        place = (last["partition"], last["seq"], last["idx"], last["leg"])
        cursor = make_cursor(filters, (ms_of(last["at"]), *place))
    body = wire_past.Transfers([_transfer(row) for row in page.rows], cursor, _as_of(page.as_of))
    return json_answer(200, wire.encode(body))


def _unknown_account() -> Refused:
    return Refused("account_not_found", "the account, or its balance in this currency, was never opened")


def _as_of(as_of: AsOf) -> wire_past.AsOf:
    return wire_past.AsOf(time_text(as_of.at_ms), as_of.lag_s)


def _metadata(row: Any) -> dict[str, str] | None:
    text = row["metadata"]
    return None if text is None else msgspec.json.decode(text, type=dict[str, str])


def _or_unset(value: Any) -> Any:
    return UNSET if value is None else value


def _transaction(row: Any) -> wire_past.Transaction:
    currency = row["currency"]
    return wire_past.Transaction(
        transaction_id=str(row["transaction_id"]),
        type=row["type"],
        direction="in" if row["delta"] > 0 else "out",
        amount=format_amount(row["amount"], currency),
        currency=currency,
        counterparty=row["counterparty"],
        status=row["status"],
        code=_or_unset(row["code"]),
        balance_after=format_amount(row["balance"], currency),
        reference=row["reference"],
        metadata=_metadata(row),
        key=_or_unset(row["key_id"]),
        at=time_text(ms_of(row["at"])),
        partition=row["partition"],
        seq=row["seq"],
    )


def _transfer(row: Any) -> wire_past.Transfer:
    currency = row["currency"]
    return wire_past.Transfer(
        transaction_id=str(row["transaction_id"]),
        type=row["type"],
        from_account=row["payer"],
        to_account=row["receiver"],
        amount=format_amount(row["amount"], currency),
        currency=currency,
        status=row["status"],
        code=_or_unset(row["code"]),
        reference=row["reference"],
        metadata=_metadata(row),
        key=_or_unset(row["key_id"]),
        at=time_text(ms_of(row["at"])),
        partition=row["partition"],
        seq=row["seq"],
    )


def _hold(row: Any) -> wire.Hold:
    currency = row["currency"]
    amounts = {name: row[name] for name in ("amount", "captured", "released")}
    amounts["remaining"] = amounts["amount"] - amounts["captured"] - amounts["released"]
    return wire.Hold(
        hold_id=str(row["hold_id"]),
        account_id=row["account"],
        to_account=receiver_in(row["to_account"]),
        currency=currency,
        **{name: format_amount(minor, currency) for name, minor in amounts.items()},
        status=STATUS_WORDS[row["status"]],
        expires_at=time_text(ms_of(row["expires_at"])),
        reference=said_in(row["note"]).get(REFERENCE),
    )


def _lines(
    rows: Sequence[Any], account: str, currency: str, before_minor: int
) -> Iterator[wire_past.StatementLine]:
    """Rows of a system account have the balance of their partition; told is that of all partitions together."""
    for row in rows:
        before_minor += row["delta"]
        yield _line(row, currency, before_minor if is_system(account) else row["balance"])


def _line(row: Any, currency: str, balance_minor: int) -> wire_past.StatementLine:
    return wire_past.StatementLine(
        at=time_text(ms_of(row["at"])),
        type=row["type"] or "transfer",
        status=row["status"],
        transaction_id=None if row["transaction_id"] is None else str(row["transaction_id"]),
        amount=format_amount(row["delta"], currency),
        currency=currency,
        counterparty=row["counterparty"],
        balance_after=format_amount(balance_minor, currency),
        reference=row["reference"],
        partition=row["partition"],
        seq=row["seq"],
    )


async def _as_json(
    found: Statement, account: str, currency: str, span: tuple[int | None, int | None]
) -> AsyncGenerator[bytes, None]:
    """`closing_balance` comes last: it is the sum of the opening balance and all lines."""
    head = {
        "account_id": account,
        "currency": currency,
        **{
            name: None if ms is None else time_text(ms) for name, ms in zip(("from", "to"), span, strict=True)
        },
        "as_of": _as_of(found.as_of),
        "opening_balance": format_amount(found.opening_minor, currency),
    }
    yield msgspec.json.encode(head)[:-1] + b',"lines":['
    closing, comma = found.opening_minor, b""
    async for rows in found.lines():
        yield comma + b",".join(map(wire.encode, _lines(rows, account, currency, closing)))
        closing += sum(row["delta"] for row in rows)
        comma = b","
    yield b'],"closing_balance":"%b"}' % format_amount(closing, currency).encode()


def _as_text(cell: str | None) -> str | None:
    """The text with a `'` in front if it begins like a formula or with a `'`: a reader who removes one has the text."""
    return f"'{cell}" if cell and cell.startswith(_FORMULA_SIGNS) else cell


def _cells(line: wire_past.StatementLine) -> list[Any]:
    cells = msgspec.to_builtins(line)
    cells["reference"] = _as_text(line.reference)
    # The name of a system account begins with a sign, but no name can call a function.
    if not is_system(line.counterparty or ""):
        cells["counterparty"] = _as_text(line.counterparty)
    return [cells[name] for name in _CSV_HEAD]


async def _as_csv(
    found: Statement, account: str, currency: str, span: tuple[int | None, int | None]
) -> AsyncGenerator[bytes, None]:
    """CSV (RFC 4180) with a header; the first and the last line are `opening` and `closing`."""

    def text(*lines: Any) -> bytes:
        out = io.StringIO()
        csv.writer(out).writerows(lines)
        return out.getvalue().encode()

    def edge(name: str, ms: int | None, minor: int) -> list[str | None]:
        when = None if ms is None else time_text(ms)
        return [when, name, *[None] * 3, currency, None, format_amount(minor, currency), *[None] * 3]

    yield text(_CSV_HEAD, edge("opening", span[0], found.opening_minor))
    closing = found.opening_minor
    async for rows in found.lines():
        lines = [_cells(line) for line in _lines(rows, account, currency, closing)]
        closing += sum(row["delta"] for row in rows)
        yield text(*lines)
    yield text(edge("closing", span[1], closing))


_PAGED: Final = ("limit", "cursor", "min_position")
ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/v1/accounts/{account_id}/transactions",
        transactions,
        "An account's transactions, page by page, newest first.",
        {200: wire_past.Transactions},
        (
            *MALFORMED,
            "invalid_currency",
            "invalid_amount",
            "cursor_mismatch",
            "account_not_found",
            *OUTAGE_CODES,
            *CODES,
        ),
        optional_query=(
            *("currency", "type", "direction", "status", "counterparty", "reference", "min_amount"),
            *("max_amount", "from", "to", "order", *_PAGED),
        ),
    ),
    Endpoint(
        "GET",
        "/v1/accounts/{account_id}/statement",
        statement,
        "The changes of a balance, from its opening to its closing balance; as JSON or CSV.",
        {200: wire_past.StatementDocument},
        (*MALFORMED, "invalid_currency", "account_not_found", "history_expired", *OUTAGE_CODES, *CODES),
        query=("currency",),
        optional_query=("from", "to", "format", "min_position"),
        small=False,
    ),
    Endpoint(
        "GET",
        "/v1/accounts/{account_id}/holds",
        holds,
        "An account's holds, newest first.",
        {200: wire_past.Holds},
        (*MALFORMED, "cursor_mismatch", "account_not_found", *OUTAGE_CODES, *CODES),
        optional_query=("status", *_PAGED),
    ),
    Endpoint(
        "GET",
        "/v1/transfers",
        transfers,
        "Transfers by their reference, newest first.",
        {200: wire_past.Transfers},
        (*MALFORMED, "cursor_mismatch", *CODES),
        query=("reference",),
        optional_query=("from", "to", *_PAGED),
    ),
)
