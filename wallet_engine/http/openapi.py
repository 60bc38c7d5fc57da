"""The OpenAPI 3.1 document, made from the types that decode and encode the bodies.

`OPERATIONS` says what `application.make_endpoints` serves, and a test compares the two.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from wallet_engine.http import wire
from wallet_engine.http.problems import KINDS, OUTAGE_CODES

_REF: Final = "#/components/schemas/{name}"
_MALFORMED: Final = ("invalid_request",)
_DECLINES_OF_TRANSFER: Final = (
    "account_not_found",
    "idempotency_conflict",
    "insufficient_funds",
    "account_frozen",
    "account_closed",
    "balance_limit",
)


class Operation(NamedTuple):
    """One endpoint. `codes` are the problems it can answer besides 405, 500 and `overloaded`."""

    method: str
    template: str
    summary: str
    #: Status -> type of the body; None is text.
    answers: dict[int, type[Struct] | None]
    codes: tuple[str, ...] = ()
    request: type[Struct] | None = None
    query: tuple[str, ...] = ()
    replayable: bool = False


def _flag(action: str, *codes: str) -> Operation:
    return Operation(
        "POST",
        f"/v1/accounts/{{account_id}}/{action}",
        f"{action.capitalize()} an account.",
        {200: wire.Account},
        (*_MALFORMED, "account_not_found", *codes, *OUTAGE_CODES),
    )


OPERATIONS: Final = (
    Operation(
        "POST",
        "/v1/wallet/balance_transfer",
        "Move money once. The transaction id may come as Idempotency-Key header instead.",
        {200: wire.TransferSucceeded},
        (
            *_MALFORMED,
            "invalid_amount",
            "invalid_currency",
            "same_account",
            "request_too_large",
            *_DECLINES_OF_TRANSFER,
            *OUTAGE_CODES,
        ),
        wire.TransferRequest,
        replayable=True,
    ),
    Operation(
        "POST",
        "/v1/transfers/batch",
        "Move money many times; each transfer is decided on its own.",
        {200: wire.BatchResponse},
        (
            *_MALFORMED,
            "invalid_amount",
            "invalid_currency",
            "same_account",
            "request_too_large",
            *OUTAGE_CODES,
        ),
        wire.BatchRequest,
    ),
    Operation(
        "GET",
        "/v1/transfers/{transaction_id}",
        "What became of a transfer.",
        {200: wire.TransferStatus},
        (*_MALFORMED, "transfer_not_found", *OUTAGE_CODES),
        query=("from_account",),
    ),
    Operation(
        "POST",
        "/v1/accounts",
        "Open an account in a currency; 200 when it is open already.",
        {201: wire.OpenedAccount, 200: wire.OpenedAccount},
        (
            *_MALFORMED,
            "invalid_amount",
            "invalid_currency",
            "request_too_large",
            "idempotency_conflict",
            "account_closed",
            *OUTAGE_CODES,
        ),
        wire.OpenAccountRequest,
    ),
    Operation(
        "GET",
        "/v1/accounts/{account_id}",
        "An account with all its balances.",
        {200: wire.Account},
        (*_MALFORMED, "account_not_found", *OUTAGE_CODES),
    ),
    Operation(
        "GET",
        "/v1/accounts/{account_id}/balance",
        "A durable balance and the journal entry it stands at.",
        {200: wire.DurableBalance},
        (*_MALFORMED, "invalid_currency", "account_not_found", *OUTAGE_CODES),
        query=("currency",),
    ),
    _flag("freeze", "account_closed"),
    _flag("unfreeze", "account_closed"),
    _flag("close", "balance_not_zero"),
    Operation("GET", "/healthz", "Whether the process lives.", {200: wire.Health}),
    Operation(
        "GET",
        "/readyz",
        "Whether transfers are taken, and what keeps those of some partitions from it.",
        {200: wire.ReadinessReport, 503: wire.ReadinessReport},
    ),
    Operation("GET", "/metrics", "Prometheus exposition text.", {200: None}),
    Operation("GET", "/openapi.json", "This document.", {200: None}),
)


def openapi_document() -> bytes:
    """The document as JSON."""
    types: set[type[Struct]] = {wire.Problem}
    for operation in OPERATIONS:
        types.update(t for t in (*operation.answers.values(), operation.request) if t is not None)
    _, schemas = msgspec.json.schema_components(sorted(types, key=lambda t: t.__name__), ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.template, {})[operation.method.lower()] = _operation(operation)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Wallet engine",
            "version": "1",
            "description": "Every error is problem+json with a stable `code`; `retryable` says whether the "
            "same request with the same id may succeed later. Unknown paths are 404 `not_found`.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }
    return msgspec.json.encode(document)


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    parameters = _parameters(operation)
    if parameters:
        described["parameters"] = parameters
    if operation.request is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.request)}
    return described


def _operation_id(operation: Operation) -> str:
    words = [
        part.strip("{}").replace(".", "_") for part in operation.template.split("/") if part not in ("", "v1")
    ]
    return "_".join([operation.method.lower(), *words])


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [part[1:-1] for part in operation.template.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": where, "required": True, "schema": _field_schema(name)}
        for where, names in (("path", in_path), ("query", operation.query))
        for name in names
    ]
    if operation.replayable:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Stands in for transaction_id; both given must be equal.",
                "schema": _field_schema("transaction_id"),
            }
        )
    return parameters


def _field_schema(name: str) -> dict[str, Any]:
    types = {"currency": wire.CurrencyCode, "transaction_id": wire.TransactionId}
    return msgspec.json.schema(types.get(name, wire.AccountId))


def _responses(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, type_ in operation.answers.items():
        content = {"text/plain": {"schema": {"type": "string"}}} if type_ is None else _content(type_)
        responses[str(status)] = {
            "description": "Success" if status < 300 else "Not ready",
            "content": content,
        }
    if operation.template == "/openapi.json":
        responses["200"]["content"] = {"application/json": {"schema": {"type": "object"}}}
    if operation.replayable:
        responses["200"]["headers"] = _header("Idempotent-Replayed", "true when this answer was given before")
    bounded = ("overloaded",) if operation.template.startswith("/v1/") else ()
    codes = dict.fromkeys((*operation.codes, "method_not_allowed", "internal_error", *bounded))
    for code in codes:
        problem_status = str(KINDS[code].status)
        if problem_status not in responses:
            responses[problem_status] = _problem_response(
                c for c in codes if KINDS[c].status == KINDS[code].status
            )
            if problem_status == "503":
                responses[problem_status]["headers"] = _header("Retry-After", "seconds")
    return dict(sorted(responses.items()))


def _problem_response(codes: Iterable[str]) -> dict[str, Any]:
    listed = list(codes)
    schema = {
        "allOf": [
            {"$ref": _REF.format(name="Problem")},
            {"type": "object", "properties": {"code": {"type": "string", "enum": listed}}},
        ]
    }
    return {
        "description": "; ".join(f"{code}: {KINDS[code].title}" for code in listed),
        "content": {"application/problem+json": {"schema": schema}},
    }


def _header(name: str, description: str) -> dict[str, Any]:
    return {name: {"description": description, "schema": {"type": "string"}}}


def _content(type_: type[Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name=type_.__name__)}}}
