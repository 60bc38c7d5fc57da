"""Every outcome and outage of every call: status, code, headers, body, and the call of the wallet."""

import time
from typing import Any

import pytest
from starlette.types import ASGIApp
from structlog.testing import capture_logs
from unit.http.test_malformed import BATCH, GOOD, SINGLE, TXID, TXID_2, changed
from unit.http.wallet_double import ALICE, WalletDouble, assert_problem, call

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.group_commands import GroupView
from wallet_engine.domain.groups import Leg
from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.domain.outcomes import WIRE_CODES, Outcome
from wallet_engine.http.problems import KINDS, OUTAGE_CODES, TRANSFER_DETAILS
from wallet_engine.service.api import (
    OF_RECEIVER,
    AccountView,
    BalanceView,
    ConditionView,
    Money,
    Readiness,
    TransferAnswer,
    TransferCommand,
)

COMMAND = TransferCommand("alice", "bob", 1234, "USD", pack_transaction_id(TXID))
DECLINES = [
    ("!", 409, "idempotency_conflict"),
    ("a", 404, "account_not_found"),
    ("c", 422, "account_closed"),
    ("f", 422, "account_frozen"),
    ("i", 422, "insufficient_funds"),
    ("l", 422, "balance_limit"),
    ("g", 404, "account_not_found"),
    ("k", 422, "account_closed"),
    ("q", 422, "account_frozen"),
]


OWES = {"balance": "-12.34", "available": "-12.34", "held": "0.00", "pending": "0.00"}


def test_every_refusal_has_a_kind_and_a_detail() -> None:
    assert set(WIRE_CODES.values()) <= KINDS.keys()
    assert set(WIRE_CODES) <= TRANSFER_DETAILS.keys()
    assert set(WIRE_CODES) == set(Outcome) - {
        *(Outcome.APPLIED, Outcome.REPEATED, Outcome.STALE, Outcome.INTERRUPTED)
    }


@pytest.mark.parametrize("replayed", [False, True])
def test_transfer_succeeds(app: ASGIApp, wallet: WalletDouble, replayed: bool) -> None:
    wallet.answers["transfer"] = TransferAnswer("+", replayed)
    response = call(app, "POST", SINGLE, json=GOOD)
    assert (response.status_code, response.json()) == (200, {"status": "success", "transaction_id": TXID})
    assert response.headers["content-type"] == "application/json"
    assert response.headers.get("idempotent-replayed") == ("true" if replayed else None)
    assert wallet.calls == [("transfer", (COMMAND,))]


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize(("outcome", "status", "code"), DECLINES)
def test_transfer_is_declined(
    app: ASGIApp, wallet: WalletDouble, outcome: str, status: int, code: str, replayed: bool
) -> None:
    wallet.answers["transfer"] = TransferAnswer(outcome, replayed)
    response = call(app, "POST", SINGLE, json=GOOD)
    assert assert_problem(response, status, code)["transaction_id"] == TXID
    assert response.headers.get("idempotent-replayed") == ("true" if replayed else None)


@pytest.mark.parametrize(
    "code", ["overloaded", "partition_unavailable", "journal_unavailable", "outcome_unknown"]
)
def test_outage_of_a_transfer(app: ASGIApp, wallet: WalletDouble, code: str) -> None:
    assert code in OUTAGE_CODES
    wallet.answers["transfer"] = wallet.answers["find_transfer"] = Outage(code, "why", retry_after_s=7)
    for response in (
        call(app, "POST", SINGLE, json=GOOD),
        call(app, "GET", f"/v1/transfers/{TXID}?from_account=alice"),
    ):
        problem = assert_problem(response, 503, code)
        assert (problem["detail"], problem["transaction_id"]) == ("why", TXID)
        assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("method", "path", "body", "asked"),
    [
        ("POST", BATCH, {"transfers": [GOOD]}, "transfer_many"),
        ("POST", "/v1/accounts", {"account_id": "alice", "currency": "USD"}, "open_account"),
        ("GET", "/v1/accounts/alice", None, "account"),
        ("GET", "/v1/accounts/alice/balance?currency=USD", None, "balance"),
        ("POST", "/v1/accounts/alice/freeze", None, "set_flags"),
    ],
)
def test_outage_of_any_other_call(
    app: ASGIApp, wallet: WalletDouble, method: str, path: str, body: object, asked: str
) -> None:
    wallet.answers[asked] = Outage("partition_unavailable", "recovering")
    problem = assert_problem(call(app, method, path, json=body), 503, "partition_unavailable")
    assert "transaction_id" not in problem


def test_outage_outside_the_contract_leaves_the_outcome_open(app: ASGIApp, wallet: WalletDouble) -> None:
    wallet.answers["transfer"] = Outage("new_code", "why")
    assert_problem(call(app, "POST", SINGLE, json=GOOD), 503, "outcome_unknown")


@pytest.mark.parametrize("failure", [RuntimeError("a secret"), TransferAnswer("?", False)])
def test_unexpected_failure_is_logged_and_tells_nothing(
    app: ASGIApp, wallet: WalletDouble, failure: object
) -> None:
    wallet.answers["transfer"] = failure
    with capture_logs() as logged:
        response = call(app, "POST", SINGLE, json=GOOD)
    assert assert_problem(response, 500, "internal_error")["transaction_id"] == TXID
    assert "secret" not in response.text
    assert [(record["log_level"], record["path"]) for record in logged] == [("error", SINGLE)]


def test_transaction_id_is_canonical_lower_case(app: ASGIApp, wallet: WalletDouble) -> None:
    upper = changed({"transaction_id": TXID.upper()})
    assert call(app, "POST", SINGLE, json=upper).json()["transaction_id"] == TXID
    batch = call(app, "POST", BATCH, json={"transfers": [upper]}).json()
    assert batch["results"][0]["transaction_id"] == TXID
    found = call(app, "GET", f"/v1/transfers/{TXID.upper()}?from_account=alice").json()
    assert found["transaction_id"] == TXID
    assert wallet.calls[0] == ("transfer", (COMMAND,))
    assert wallet.calls[1] == ("transfer_many", ([COMMAND],))
    assert wallet.calls[2] == ("find_transfer", ("alice", COMMAND.transaction))


@pytest.mark.parametrize("key", [TXID, TXID.upper(), f'"{TXID}"'])
@pytest.mark.parametrize("in_body", ["absent", TXID, TXID.upper()])
def test_idempotency_key_stands_in(app: ASGIApp, wallet: WalletDouble, key: str, in_body: str) -> None:
    body: dict[str, Any] = changed({"transaction_id": in_body})
    if in_body == "absent":
        del body["transaction_id"]
    response = call(app, "POST", SINGLE, json=body, headers={"Idempotency-Key": key})
    assert response.json() == {"status": "success", "transaction_id": TXID}
    assert wallet.calls == [("transfer", (COMMAND,))]


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": TXID}])
def test_transaction_id_is_never_null(app: ASGIApp, wallet: WalletDouble, headers: dict[str, str]) -> None:
    response = call(app, "POST", SINGLE, json=changed({"transaction_id": None}), headers=headers)
    assert_problem(response, 400, "invalid_request")
    assert wallet.calls == []


def test_system_accounts_pay_and_receive(app: ASGIApp, wallet: WalletDouble) -> None:
    for side in ("from_account", "to_account"):
        assert call(app, "POST", SINGLE, json=changed({side: "@bank"})).status_code == 200
    assert [c[1][0][:2] for c in wallet.calls] == [("@bank", "bob"), ("alice", "@bank")]


def test_batch_answers_each_transfer_on_its_own(app: ASGIApp, wallet: WalletDouble) -> None:
    outcomes = ["+", *(outcome for outcome, _, _ in DECLINES), *OUTAGE_CODES, "+"]
    transfers = [changed({"transaction_id": TXID[:-2] + f"{i:02x}"}) for i in range(len(outcomes))]
    wallet.answers["transfer_many"] = outcomes
    response = call(app, "POST", BATCH, json={"transfers": transfers})
    expected: list[dict[str, str]] = [
        {"status": "success"},
        *({"status": "declined", "code": code, "detail": TRANSFER_DETAILS[o]} for o, _, code in DECLINES),
        *({"status": "unknown", "code": code, "detail": TRANSFER_DETAILS[code]} for code in OUTAGE_CODES),
        {"status": "success"},
    ]
    assert response.status_code == 200
    assert response.json() == {
        "results": [
            {"transaction_id": transfer["transaction_id"], **rest}
            for transfer, rest in zip(transfers, expected, strict=True)
        ]
    }


@pytest.mark.parametrize(("of_payer", "of_receiver"), ["ag", "ck", "fq"])
def test_a_refusal_names_the_side(
    app: ASGIApp, wallet: WalletDouble, of_payer: str, of_receiver: str
) -> None:
    """In a single call and in a batch. A call with only one account names no side."""
    for outcome, side in ((of_payer, "payer"), (of_receiver, "receiver")):
        wallet.answers["transfer"] = TransferAnswer(outcome, False)
        wallet.answers["transfer_many"] = [outcome]
        alone = call(app, "POST", SINGLE, json=GOOD).json()["detail"]
        (result,) = call(app, "POST", BATCH, json={"transfers": [GOOD]}).json()["results"]
        assert alone.startswith(f"the {side}'s account")
        assert result["detail"] == alone
    wallet.answers["set_flags"] = (of_payer, None)
    detail = call(app, "POST", "/v1/accounts/alice/freeze").json()["detail"]
    assert "payer" not in detail


def test_an_outage_in_a_batch_names_the_side(app: ASGIApp, wallet: WalletDouble) -> None:
    wallet.answers["transfer_many"] = ["partition_unavailable", "partition_unavailable" + OF_RECEIVER]
    transfers = [GOOD, changed({"transaction_id": TXID_2})]
    results = call(app, "POST", BATCH, json={"transfers": transfers}).json()["results"]
    assert [result["code"] for result in results] == ["partition_unavailable"] * 2
    assert ["payer's" in results[0]["detail"], "receiver's" in results[1]["detail"]] == [True, True]


def test_batch_of_nothing(app: ASGIApp, wallet: WalletDouble) -> None:
    response = call(app, "POST", BATCH, json={"transfers": []})
    assert (response.status_code, response.json()) == (200, {"results": []})
    assert wallet.calls == []


def test_batch_answer_of_the_wrong_length_is_an_internal_error(app: ASGIApp, wallet: WalletDouble) -> None:
    wallet.answers["transfer_many"] = ["+"]
    response = call(app, "POST", BATCH, json={"transfers": [GOOD, changed({"transaction_id": TXID_2})]})
    assert_problem(response, 500, "internal_error")


@pytest.mark.parametrize(
    ("outcome", "rest"),
    [("+", {"status": "success"}), ("~", {"status": "pending"})]
    + [(outcome, {"status": "declined", "code": code}) for outcome, _, code in DECLINES if outcome != "!"],
)
def test_find_transfer(app: ASGIApp, wallet: WalletDouble, outcome: str, rest: dict[str, str]) -> None:
    wallet.answers["find_transfer"] = outcome
    response = call(app, "GET", f"/v1/transfers/{TXID}?from_account=%40bank")
    assert (response.status_code, response.json()) == (200, {"transaction_id": TXID, **rest})
    asked = ("@bank", COMMAND.transaction)
    assert wallet.calls == [("find_transfer", asked), ("find_group", asked), ("request_of", asked)]


def test_a_group_is_found_with_its_legs(app: ASGIApp, wallet: WalletDouble) -> None:
    leg = Leg("b", 0, "ann", "bob", 1234, "USD")
    wallet.answers |= {"find_transfer": "i", "find_group": GroupView("i", 0, (leg,), "X1")}
    response = call(app, "GET", f"/v1/transfers/{TXID}?from_account=ann")
    assert response.json() == {
        **{"transaction_id": TXID, "status": "declined", "code": "insufficient_funds", "leg": 0},
        "legs": [{"from_account": "ann", "to_account": "bob", "amount": "12.34", "currency": "USD"}],
    }


def test_find_unknown_transfer(app: ASGIApp, wallet: WalletDouble) -> None:
    wallet.answers["find_transfer"] = None
    response = call(app, "GET", f"/v1/transfers/{TXID}?from_account=alice")
    assert assert_problem(response, 404, "transfer_not_found")["transaction_id"] == TXID


@pytest.mark.parametrize(("outcome", "status"), [("+", 201), ("=", 200)])
@pytest.mark.parametrize(
    ("limit", "limit_minor"), [({}, None), ({"overdraft_limit": "0"}, 0), ({"overdraft_limit": "50.5"}, 5050)]
)
def test_open_account(
    app: ASGIApp,
    wallet: WalletDouble,
    outcome: str,
    status: int,
    limit: dict[str, str],
    limit_minor: int | None,
) -> None:
    wallet.answers["open_account"] = (outcome, ALICE)
    response = call(app, "POST", "/v1/accounts", json={"account_id": "alice", "currency": "USD", **limit})
    assert response.status_code == status
    assert response.json() == {
        "account_id": "alice",
        "currency": "USD",
        **OWES,
        "status": "active",
    }
    assert wallet.calls == [("open_account", ("alice", "USD", limit_minor))]


@pytest.mark.parametrize(
    ("outcome", "view", "status", "code"),
    [
        ("!", ALICE, 409, "idempotency_conflict"),
        ("!", None, 409, "idempotency_conflict"),
        ("c", None, 422, "account_closed"),
    ],
)
def test_open_account_is_declined(
    app: ASGIApp, wallet: WalletDouble, outcome: str, view: AccountView | None, status: int, code: str
) -> None:
    wallet.answers["open_account"] = (outcome, view)
    body = {"account_id": "alice", "currency": "USD"}
    assert_problem(call(app, "POST", "/v1/accounts", json=body), status, code)


def test_show_account(app: ASGIApp, wallet: WalletDouble) -> None:
    response = call(app, "GET", "/v1/accounts/a%6Cice")
    assert response.status_code == 200
    assert response.json() == {
        "account_id": "alice",
        "status": "active",
        "balances": [
            {
                "currency": "JPY",
                **{"balance": "7", "available": "7", "held": "0", "pending": "0"},
                "overdraft_limit": "0",
            },
            {"currency": "USD", **OWES, "overdraft_limit": "50.00"},
        ],
    }
    assert wallet.calls == [("account", ("alice",))]


@pytest.mark.parametrize(
    ("view", "account", "position"),
    [
        (BalanceView(Money(-1234), 3, 99), "alice", {"partition": 3, "seq": 99}),
        (BalanceView(Money(-1234), None, None), "@bank", {"partition": None, "seq": None}),
    ],
)
def test_show_balance(
    app: ASGIApp, wallet: WalletDouble, view: BalanceView, account: str, position: dict[str, Any]
) -> None:
    wallet.answers["balance"] = view
    response = call(app, "GET", f"/v1/accounts/{account}/balance?currency=USD")
    expected = {"account_id": account, "currency": "USD", **OWES, **position}
    assert (response.status_code, response.json()) == (200, expected)
    assert wallet.calls == [("balance", (account, "USD"))]


def test_unknown_account(app: ASGIApp, wallet: WalletDouble) -> None:
    wallet.answers.update(account=None, balance=None, set_flags=("a", None))
    for method, rest in (("GET", ""), ("GET", "/balance?currency=USD"), ("POST", "/freeze")):
        assert_problem(call(app, method, f"/v1/accounts/alice{rest}"), 404, "account_not_found")


@pytest.mark.parametrize("outcome", ["+", "="])
@pytest.mark.parametrize("action", ["freeze", "unfreeze", "close"])
def test_set_flags(app: ASGIApp, wallet: WalletDouble, action: str, outcome: str) -> None:
    wallet.answers["set_flags"] = (outcome, ALICE._replace(status="frozen"))
    response = call(app, "POST", f"/v1/accounts/alice/{action}")
    assert (response.status_code, response.json()["status"]) == (200, "frozen")
    assert response.json().keys() == {"account_id", "status", "balances"}
    assert wallet.calls == [("set_flags", ("alice", action))]


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        ("a", 404, "account_not_found"),
        ("c", 422, "account_closed"),
        ("z", 422, "balance_not_zero"),
        ("p", 422, "operations_pending"),
    ],
)
def test_set_flags_is_declined(
    app: ASGIApp, wallet: WalletDouble, outcome: str, status: int, code: str
) -> None:
    wallet.answers["set_flags"] = (outcome, None)
    assert_problem(call(app, "POST", "/v1/accounts/alice/close"), status, code)


def test_readiness(app: ASGIApp, wallet: WalletDouble) -> None:
    def asked() -> tuple[int, dict[str, Any], dict[str, str]]:
        response = call(app, "GET", "/readyz")
        document = response.json()
        assert abs(document.pop("clock_ms") / 1000 - time.time()) < 60
        return response.status_code, document, dict(response.headers)

    well = {"ready": True, "status": "ready", "reason": "ok", "conditions": []}
    assert asked()[:2] == (200, well)
    full = ConditionView("full", (3, 4), "100 entries")
    wallet.ready = Readiness("degraded", "2 of 16", (full,))
    said = [{"condition": "full", "partitions": [3, 4], "detail": "100 entries"}]
    document = {"ready": True, "status": "degraded", "reason": "2 of 16", "conditions": said}
    assert asked()[:2] == (200, document)
    wallet.ready = Readiness(
        "unready", "too few copies", (ConditionView("no_quorum", None, "too few copies"),)
    )
    said = [{"condition": "no_quorum", "partitions": None, "detail": "too few copies"}]
    document = {"ready": False, "status": "unready", "reason": "too few copies", "conditions": said}
    status, found, headers = asked()
    assert (status, found, headers["retry-after"]) == (503, document, "1")
    assert call(app, "GET", "/healthz").json() == {"status": "ok"}
