"""The OpenAPI document: it agrees with the endpoints, and is valid."""

import json
import re
from typing import Any

import msgspec
import pytest
from starlette.types import ASGIApp
from unit.http.wallet_double import call

from wallet_engine.http import wire
from wallet_engine.http.endpoints import ENDPOINTS
from wallet_engine.http.openapi import openapi_document
from wallet_engine.http.problems import KINDS

DOCUMENT: dict[str, Any] = json.loads(openapi_document(ENDPOINTS))


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(m, path, o) for path, item in DOCUMENT["paths"].items() for m, o in item.items()]


def test_is_served(app: ASGIApp) -> None:
    response = call(app, "GET", "/openapi.json")
    assert (response.status_code, response.json()) == (200, DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1")


def test_describes_every_endpoint_and_no_other() -> None:
    assert {(method.upper(), path) for method, path, _ in operations()} == {
        (e.method, e.template) for e in ENDPOINTS
    }


def test_operation_ids_are_unique() -> None:
    ids = [o["operationId"] for _, _, o in operations()]
    assert len(set(ids)) == len(ids)


def test_every_reference_resolves() -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                prefix, _, name = node["$ref"].rpartition("/")
                assert prefix == "#/components/schemas"
                assert name in DOCUMENT["components"]["schemas"]
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(DOCUMENT)


def test_path_parameters_are_declared() -> None:
    for _, path, operation in operations():
        declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_every_code_is_documented_under_its_status() -> None:
    documented: set[str] = set()
    for _, path, operation in operations():
        for status, response in operation["responses"].items():
            assert response["description"]
            problem = response.get("content", {}).get("application/problem+json")
            if problem is None:
                continue
            codes = problem["schema"]["allOf"][1]["properties"]["code"]["enum"]
            assert {KINDS[code].status for code in codes} == {int(status)}
            assert ("Retry-After" in response.get("headers", {})) is (status in ("429", "503")), path
            documented.update(codes)
    # `not_found` is the answer for paths that the API does not have.
    assert documented == KINDS.keys() - {"not_found"}


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        (
            "post",
            "/v1/wallet/balance_transfer",
            "200 400 401 403 404 405 408 409 413 415 422 429 431 500 503",
        ),
        ("post", "/v1/transfers/batch", "200 400 401 403 405 408 413 415 429 431 500 503"),
        ("get", "/v1/transfers/{transaction_id}", "200 400 401 403 404 405 429 431 500 503"),
        ("post", "/v1/accounts", "200 201 400 401 403 405 408 409 413 415 422 429 431 500 503"),
        ("get", "/readyz", "200 400 405 431 500 503"),
    ],
)
def test_statuses(method: str, path: str, statuses: str) -> None:
    assert " ".join(DOCUMENT["paths"][path][method]["responses"]) == statuses


def test_request_schemas_are_those_that_decode() -> None:
    schema = DOCUMENT["components"]["schemas"]["BatchedTransfer"]
    noted = {"reference", "metadata", "min_balance_after"}
    assert set(schema["properties"]) == set(msgspec.structs.asdict(wire.BatchedTransfer(*"abcde")))
    assert set(schema["required"]) == set(schema["properties"]) - noted
    assert schema["additionalProperties"] is False
    assert "transaction_id" not in DOCUMENT["components"]["schemas"]["TransferRequest"]["required"]


def properties(node: Any, name: str) -> list[Any]:
    """Every property and parameter of that name."""
    found = []
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict) and name in node["properties"]:
            found.append(node["properties"][name])
        if node.get("name") == name and "in" in node:
            found.append(node["schema"])
        for child in node.values():
            found += properties(child, name)
    elif isinstance(node, list):
        for child in node:
            found += properties(child, name)
    return found


def test_currencies_are_an_enum_wherever_there_is_one() -> None:
    found = properties(DOCUMENT, "currency")
    assert len(found) > 10
    assert all('"enum"' in json.dumps(schema) for schema in found)


def test_no_request_may_have_null_for_a_transaction_id() -> None:
    bodies = {
        name: schema for name, schema in DOCUMENT["components"]["schemas"].items() if name.endswith("Request")
    }
    found = properties(bodies, "transaction_id")
    assert len(found) >= 5
    assert all("null" not in json.dumps(schema) for schema in found)


@pytest.mark.parametrize("action", ["freeze", "unfreeze", "close"])
def test_system_accounts_are_excluded_where_they_are_refused(app: ASGIApp, action: str) -> None:
    (schema,) = properties(DOCUMENT["paths"][f"/v1/accounts/{{account_id}}/{action}"], "account_id")
    assert re.fullmatch(schema["pattern"], "alice")
    assert not re.fullmatch(schema["pattern"], "@bank")
    assert call(app, "POST", f"/v1/accounts/@bank/{action}").status_code == 400
    for body in ("OpenAccountRequest", "HoldRequest"):
        (asked,) = properties(DOCUMENT["components"]["schemas"][body], "account_id")
        assert not re.fullmatch(asked["pattern"], "@bank")


def test_headers_of_answers_are_described() -> None:
    for method, path, operation in operations():
        described = {status: set(answer["headers"]) for status, answer in operation["responses"].items()}
        assert all("X-Request-Id" in names for names in described.values()), (method, path)
        assert "Allow" in described["405"]
        assert all("Retry-After" in described[status] for status in ("429", "503") if status in described)
    transfer = DOCUMENT["paths"]["/v1/wallet/balance_transfer"]["post"]["responses"]
    assert {"Idempotent-Replayed", "Wallet-Position"} < set(transfer["200"]["headers"])
    assert {"Idempotent-Replayed", "Wallet-Position"} < set(transfer["422"]["headers"])
    assert "Wallet-Position" in transfer["409"]["headers"], "a conflict is decided by an entry, too"
