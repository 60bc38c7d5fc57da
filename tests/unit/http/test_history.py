"""Calls about the past without a history store, and requests that are refused before the store is asked."""

import pytest
from starlette.types import ASGIApp
from unit.http.wallet_double import assert_problem, call

PATHS = [
    "/v1/accounts/alice/transactions",
    "/v1/accounts/alice/statement?currency=USD",
    "/v1/accounts/alice/holds",
    "/v1/transfers?reference=rent",
    "/v1/accounts/alice/balance?currency=USD&at=2026-11-21T10:00:00Z",
]


@pytest.mark.parametrize("path", PATHS)
def test_without_a_store_the_past_is_not_configured(app: ASGIApp, path: str) -> None:
    assert_problem(call(app, "GET", path), 501, "history_not_configured")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/accounts/alice/transactions?limit=201",
        "/v1/accounts/alice/transactions?from=2026-11-21T10:00:00",
        "/v1/accounts/alice/transactions?min_amount=1.00",
        "/v1/accounts/alice/transactions?type=transfer&type=refund",
        "/v1/accounts/alice/transactions?min_position=7",
        "/v1/accounts/alice/transactions?min_position=7.1,",
        "/v1/accounts/alice/balance?currency=USD&min_position=7",
        "/v1/accounts/alice/statement?currency=USD&format=xml",
        "/v1/accounts/alice/statement",
        "/v1/accounts/alice/holds?status=gone",
        "/v1/transfers",
        "/v1/transfers?reference=%20rent",
        "/v1/accounts/alice/balance?currency=USD&at=2999-01-01T00:00:00Z",
    ],
)
def test_what_is_malformed_is_400(app: ASGIApp, path: str) -> None:
    assert_problem(call(app, "GET", path), 400, "invalid_request")
