"""The OpenAPI 3.1 document, made from the endpoints and the types that decode and encode their bodies."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from wallet_engine.domain.holds import STATUS_WORDS
from wallet_engine.history.facts import TYPES
from wallet_engine.http import wire, wire_events
from wallet_engine.http.endpoint import Endpoint
from wallet_engine.http.examples import EXAMPLES, Example
from wallet_engine.http.parse_history import LIMIT_DEFAULT, LIMIT_MAX, STATUSES
from wallet_engine.http.problems import KINDS

_KEY: Final = "key"
_REF: Final = "#/components/schemas/{name}"
_HEADERS: Final = {
    "X-Request-Id": "The id of the request, which is also in the log: the caller's own X-Request-Id, else the trace "
    "id of its traceparent, else a new one.",
    "Idempotent-Replayed": "true when this answer was given before.",
    "Wallet-Position": "The position of what was written, for `min_position` of calls about the past.",
    "Wallet-As-Of": "The time until which the answer is complete, as in `as_of`.",
    "Retry-After": "Seconds.",
    "WWW-Authenticate": "The scheme: Bearer.",
    "Allow": "The methods that this path takes.",
}
_OF_STATUS: Final = {
    "401": ("WWW-Authenticate",),
    "405": ("Allow",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}


def openapi_document(endpoints: Sequence[Endpoint]) -> bytes:
    """The document as JSON."""
    types: set[type[Struct]] = {wire.Problem}
    for endpoint in endpoints:
        types.update(t for t in (*endpoint.answers.values(), endpoint.request) if t is not None)
    _, schemas = msgspec.json.schema_components(sorted(types, key=lambda t: t.__name__), ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.template, {})[endpoint.method.lower()] = _operation(endpoint)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Wallet engine",
            "version": "1",
            "description": "Every error is problem+json with a stable `code`; `retryable` says whether the "
            "same request with the same id may succeed later. Unknown paths are 404 `not_found`; unknown "
            "fields and query parameters are 400 `invalid_request`, under /v1. Every answer has an X-Request-Id; a "
            "caller may send one, and a W3C traceparent.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                _KEY: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, wk_…. A cluster that has no keys asks for none.",
                }
            },
        },
    }
    return msgspec.json.encode(document)


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "responses": _responses(endpoint),
    }
    if not endpoint.public:
        described["security"] = [{_KEY: []}, {}]
    parameters = _parameters(endpoint)
    if parameters:
        described["parameters"] = parameters
    if endpoint.request is not None:
        content = _content(endpoint.request)
        content["application/json"]["examples"] = {e.name: {"value": e.body} for e in _examples(endpoint)}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _operation_id(endpoint: Endpoint) -> str:
    words = [
        part.strip("{}").replace(".", "_") for part in endpoint.template.split("/") if part not in ("", "v1")
    ]
    return "_".join([endpoint.method.lower(), *words])


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    in_path = [part[1:-1] for part in endpoint.template.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": where,
            "required": required,
            "schema": _field_schema(name, endpoint),
            **_parameter_examples(name, endpoint),
        }
        for where, required, names in (
            ("path", True, in_path),
            ("query", True, endpoint.query),
            ("query", False, endpoint.optional_query),
        )
        for name in names
        if name != "min_position"  # no schema describes a position: callers repeat a Wallet-Position
    ]
    if endpoint.replayable:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Stands in for transaction_id; both given must be equal.",
                "schema": _field_schema("transaction_id", endpoint),
            }
        )
    return parameters


def _parameter_examples(name: str, endpoint: Endpoint) -> dict[str, Any]:
    found = {e.name: {"value": e.parameters[name]} for e in _examples(endpoint) if name in e.parameters}
    return {"examples": found} if found else {}


def _examples(endpoint: Endpoint) -> Iterator[Example]:
    return (e for e in EXAMPLES if (e.method, e.template) == (endpoint.method, endpoint.template))


def _past_schema(name: str, endpoint: Endpoint) -> dict[str, Any]:
    """The schema of an optional query parameter of a call about the past."""
    if name == "limit":
        return {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}
    if name in ("at", "from", "to"):
        return {"type": "string", "format": "date-time"}
    words = {
        "order": ("desc", "asc"),
        "format": ("json", "csv"),
        "direction": ("in", "out"),
        "type": TYPES,
        "status": STATUSES if "type" in endpoint.optional_query else tuple(STATUS_WORDS.values()),
    }
    if name in words:
        return {"type": "string", "enum": list(words[name])}
    types = {"currency": wire.CurrencyCode, "counterparty": wire.AccountId, "reference": wire.Reference}
    amounts = {"min_amount": wire.Limit, "max_amount": wire.Limit}
    return msgspec.json.schema({**types, **amounts}.get(name, str))


def _field_schema(name: str, endpoint: Endpoint) -> dict[str, Any]:
    if name in endpoint.optional_query and "history_behind" in endpoint.codes:
        return _past_schema(name, endpoint)
    types = {
        "account_id": wire.OrdinaryAccountId if endpoint.ordinary else wire.AccountId,
        "currency": wire.CurrencyCode,
        "transaction_id": wire.TransactionId,
        "hold_id": wire.TransactionId,
        "reference": wire.Reference,
        **wire_events.PARAMETERS,
    }
    return msgspec.json.schema(types.get(name, wire.Party))


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, type_ in endpoint.answers.items():
        content = {endpoint.media: {"schema": _text(endpoint)}} if type_ is None else _content(type_)
        responses[str(status)] = {
            "description": "Success" if status < 300 else "Not ready",
            **({} if status == 204 else {"content": content}),
        }
    if "format" in endpoint.optional_query:
        responses["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    bounded = ("rate_limited", "overloaded") if endpoint.bounded else ()
    paused = ("maintenance",) if endpoint.pays else ()
    guarded = () if endpoint.public else ("unauthenticated", "forbidden")
    posted = (
        ("request_timeout", "request_too_large", "unsupported_media_type") if endpoint.method != "GET" else ()
    )
    every = ("invalid_request", "head_too_large", "method_not_allowed", "internal_error")
    codes = dict.fromkeys((*endpoint.codes, *guarded, *posted, *every, *bounded, *paused))
    for code in codes:
        problem_status = str(KINDS[code].status)
        if problem_status not in responses:
            responses[problem_status] = _problem_response(
                c for c in codes if KINDS[c].status == KINDS[code].status
            )
    for answered, response in responses.items():
        response["headers"] = _headers(endpoint, answered)
    return dict(sorted(responses.items()))


def _text(endpoint: Endpoint) -> dict[str, Any]:
    return {"type": "object" if endpoint.media == "application/json" else "string"}


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


def _headers(endpoint: Endpoint, status: str) -> dict[str, Any]:
    """The headers that an answer of that status may have, beside those of HTTP itself."""
    names = ["X-Request-Id"]
    decided = status in ("200", "201", "404", "422")
    if decided and endpoint.replayable:
        names.append("Idempotent-Replayed")
    if (decided or status == "409") and endpoint.method != "GET":
        names.append("Wallet-Position")
    if status == "200" and "format" in endpoint.optional_query:
        names.append("Wallet-As-Of")
    names += _OF_STATUS.get(status, ())
    return {name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in names}


def _content(type_: type[Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name=type_.__name__)}}}
