"""One row for each malformed field and call: its status and code, and no call of the wallet."""

import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp
from unit.http.wallet_double import WalletDouble, assert_problem, call

from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.limits import BATCH_CALL_TRANSFERS_MAX, BODY_BYTES_MAX
from wallet_engine.http import fastparse, parse
from wallet_engine.http.endpoints import ENDPOINTS
from wallet_engine.http.problems import Refused

SINGLE = "/v1/wallet/balance_transfer"
BATCH = "/v1/transfers/batch"
TXID = "6f1c1a3e-0f4b-4c53-9a53-0d6f2f4e8b11"
TXID_2 = "7f1c1a3e-0f4b-4c53-9a53-0d6f2f4e8b12"
GOOD = {
    "from_account": "alice",
    "to_account": "bob",
    "amount": "12.34",
    "currency": "USD",
    "transaction_id": TXID,
}
#: Part of the name of a test, so its `repr` must be the same in every process.
ABSENT = ...

MALFORMED_TRANSFERS: list[tuple[dict[str, Any], str]] = [
    *[({field: ABSENT}, "invalid_request") for field in GOOD],
    *[
        ({field: value}, "invalid_request")
        for field in ("from_account", "to_account", "transaction_id")
        for value in (
            1,
            None,
            True,
            [],
            {},
            "",
            " ",
            "a b",
            "é",
            "a/b",
            "a\n",
            "@",
            "a" * 65,
            "a\x00",
            "\ud800",
        )
    ],
    *[({field: TRANSIT}, "invalid_request") for field in ("from_account", "to_account")],
    *[
        ({"transaction_id": value}, "invalid_request")
        for value in (
            TXID + "0",
            TXID[:-1],
            TXID.replace("-", ""),
            "{" + TXID + "}",
            TXID[:-1] + "g",
            TXID + "\n",
        )
    ],
    *[
        ({"currency": value}, "invalid_currency")
        for value in ("usd", "Usd", "XXX", "", "USDT", " USD", "USD\n", 840, None, [], True)
    ],
    *[
        ({"amount": value}, "invalid_amount")
        for value in (
            12.34,
            12,
            0,
            None,
            True,
            [],
            "",
            " ",
            "0",
            "0.00",
            "-1",
            "+1",
            "1e3",
            "1.",
            ".5",
            "1.234",
            "1,00",
            " 1",
            "1 ",
            "1\n",
            "1_0",
            "0x10",
            "NaN",
            "Infinity",
            "١",
            "90071992547409.92",
            "99999999999999999999",
        )
    ],
    ({"amount": "1.0", "currency": "JPY"}, "invalid_amount"),
    ({"amount": "1.2345", "currency": "KWD"}, "invalid_amount"),
    ({"to_account": "alice"}, "same_account"),
    ({"memo": "x"}, "invalid_request"),
    ({"\ud800": "x"}, "invalid_request"),
    # The order of checks: shape, ids, currency, amount, same account.
    ({"memo": "x", "amount": 1}, "invalid_request"),
    ({"transaction_id": "x", "currency": "usd", "amount": 1}, "invalid_request"),
    ({"currency": "usd", "amount": 1, "to_account": "alice"}, "invalid_currency"),
    ({"amount": 1, "to_account": "alice"}, "invalid_amount"),
]


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in {**GOOD, **changes}.items() if value is not ABSENT}


MALFORMED_BODIES: list[bytes] = [
    b"",
    b" ",
    b"null",
    b"[]",
    b'"x"',
    b"12",
    b"{",
    b"{}",
    b"{'a': 1}",
    b'{"from_account": "alice",}',
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b'{"from_account": "\xff"}',
    json.dumps(GOOD).encode("utf-16"),
    json.dumps(GOOD).encode() + b"x",
    json.dumps(GOOD).encode() + json.dumps(GOOD).encode(),
    json.dumps(GOOD)[:-1].encode() + b', "from_account": "alice"}',
    json.dumps(GOOD)[:-1].encode() + b', "amount": "12.34"}',
    b'{"amount": null, ' + json.dumps(GOOD)[1:].encode(),
    b'{"transaction_id": null, ' + json.dumps(GOOD)[1:].encode(),
    b'{"x": NaN}',
    b'{"x": ' + b"9" * 5000 + b"}",
    b"[" * 200_000,
    b'{"x": ' * 200_000,
]


@pytest.mark.parametrize(("changes", "code"), MALFORMED_TRANSFERS, ids=repr)
def test_malformed_transfer_is_refused(
    app: ASGIApp, wallet: WalletDouble, changes: dict[str, Any], code: str
) -> None:
    transfer = changed(changes)
    problem = assert_problem(call(app, "POST", SINGLE, content=json.dumps(transfer)), 400, code)
    if transfer.get("transaction_id") == TXID:
        assert problem["transaction_id"] == TXID
    assert wallet.calls == []


@pytest.mark.parametrize(("changes", "code"), MALFORMED_TRANSFERS, ids=repr)
def test_one_malformed_transfer_refuses_the_whole_batch(
    app: ASGIApp, wallet: WalletDouble, changes: dict[str, Any], code: str
) -> None:
    transfers = [GOOD] * 17 + [changed(changes), {}]
    response = call(app, "POST", BATCH, content=json.dumps({"transfers": transfers}))
    assert assert_problem(response, 400, code)["detail"].startswith("transfers[17]: ")
    assert wallet.calls == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"amount": "1.001"}, "invalid_amount"), ({"to_account": "a b"}, "invalid_request")],
)
def test_so_does_one_that_is_read_in_a_later_step(
    app: ASGIApp, wallet: WalletDouble, changes: dict[str, Any], code: str
) -> None:
    transfers = [GOOD] * parse.STEP_TRANSFERS + [changed(changes)]
    response = call(app, "POST", BATCH, content=json.dumps({"transfers": transfers}))
    detail = assert_problem(response, 400, code)["detail"]
    assert detail.startswith(f"transfers[{parse.STEP_TRANSFERS}]: ")
    assert wallet.calls == []


@pytest.mark.parametrize("path", [SINGLE, BATCH, "/v1/accounts"])
@pytest.mark.parametrize("body", MALFORMED_BODIES, ids=lambda b: repr(b[:40]))
def test_malformed_body_is_refused(app: ASGIApp, wallet: WalletDouble, path: str, body: bytes) -> None:
    assert_problem(call(app, "POST", path, content=body), 400, "invalid_request")
    assert wallet.calls == []


@pytest.mark.parametrize(
    "body",
    [
        {"transfers": {}},
        {"transfers": None},
        {"transfers": "x"},
        {"transfers": [None]},
        {"transfers": [[]]},
        {"transfers": [], "atomic": True},
        {"transfer": []},
    ],
)
def test_malformed_batch_is_refused(app: ASGIApp, wallet: WalletDouble, body: dict[str, Any]) -> None:
    assert_problem(call(app, "POST", BATCH, json=body), 400, "invalid_request")
    assert wallet.calls == []


@pytest.mark.parametrize(
    ("twice", "named"),
    [
        (b'"currency": "USD"', "field 'currency'"),
        (b'"curr\\u0065ncy": "USD"', "field 'currency'"),
        (b'"metadata": {"a": "1", "b": "2", "a": "1"}', "metadata: field 'a'"),
    ],
)
def test_repeated_field_is_named_and_so_is_its_transfer(
    app: ASGIApp, wallet: WalletDouble, twice: bytes, named: str
) -> None:
    """A repeated field is a fault of its transfer, as every other: the detail has the index, the problem the id."""
    good = json.dumps(GOOD).encode()
    bad = b"%b, %b}" % (good[:-1], twice)
    problem = assert_problem(call(app, "POST", SINGLE, content=bad), 400, "invalid_request")
    assert (problem["detail"], problem["transaction_id"]) == (f"{named} is given twice", TXID)
    body = b'{"transfers": [%b, %b]}' % (good, bad)
    problem = assert_problem(call(app, "POST", BATCH, content=body), 400, "invalid_request")
    assert problem["detail"] == f"transfers[1]: {named} is given twice"
    assert problem["transaction_id"] == TXID
    assert wallet.calls == []


def test_repeated_transfers_and_ids_are_refused(app: ASGIApp, wallet: WalletDouble) -> None:
    good = json.dumps(GOOD).encode()
    body = b'{"transfers": [], "transfers": [%b]}' % good
    problem = assert_problem(call(app, "POST", BATCH, content=body), 400, "invalid_request")
    assert problem["detail"] == "field 'transfers' is given twice"
    ids = b'%b, "transaction_id": "%b"}' % (good[:-1], TXID.encode())
    problem = assert_problem(call(app, "POST", SINGLE, content=ids), 400, "invalid_request")
    assert "transaction_id" not in problem, "which of the two it would be is not known"
    assert wallet.calls == []


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"account_id": ABSENT}, "invalid_request", "account_id"),
        ({"currency": ABSENT}, "invalid_request", "currency"),
        ({"account_id": 1}, "invalid_request", "account_id"),
        ({"account_id": "a b"}, "invalid_request", "account_id"),
        ({"account_id": "@bank"}, "invalid_request", "system"),
        ({"currency": "usd"}, "invalid_currency", "currency"),
        ({"currency": None}, "invalid_currency", "currency"),
        ({"overdraft_limit": 5}, "invalid_amount", "overdraft_limit"),
        ({"overdraft_limit": "-5"}, "invalid_amount", "overdraft_limit"),
        ({"overdraft_limit": "5.001"}, "invalid_amount", "overdraft_limit"),
        ({"overdraft_limits": "5"}, "invalid_request", "overdraft_limits"),
    ],
)
def test_malformed_account_is_refused(
    app: ASGIApp, wallet: WalletDouble, changes: dict[str, Any], code: str, named: str
) -> None:
    body = {"account_id": "alice", "currency": "USD", **changes}
    body = {field: value for field, value in body.items() if value is not ABSENT}
    assert named in assert_problem(call(app, "POST", "/v1/accounts", json=body), 400, code)["detail"]
    assert wallet.calls == []


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/accounts/a%20b", "invalid_request"),
        ("GET", "/v1/accounts/a%2Fb", "invalid_request"),
        ("GET", "/v1/accounts/%FF", "invalid_request"),
        ("GET", "/v1/accounts/alice%0A", "invalid_request"),
        ("GET", "/v1/accounts/" + "a" * 65, "invalid_request"),
        ("GET", "/v1/accounts/a%20b/balance?currency=USD", "invalid_request"),
        ("GET", "/v1/accounts/alice/balance", "invalid_request"),
        ("GET", "/v1/accounts/alice/balance?currency=USD&currency=EUR", "invalid_request"),
        ("GET", "/v1/accounts/alice/balance?currency=", "invalid_currency"),
        ("GET", "/v1/accounts/alice/balance?currency=usd", "invalid_currency"),
        ("POST", "/v1/accounts/@bank/freeze", "invalid_request"),
        ("POST", "/v1/accounts/%40bank/unfreeze", "invalid_request"),
        ("POST", "/v1/accounts/@bank/close", "invalid_request"),
        ("POST", "/v1/accounts/a%20b/close", "invalid_request"),
        ("GET", f"/v1/transfers/{TXID}", "invalid_request"),
        ("GET", f"/v1/transfers/{TXID}?from_account=", "invalid_request"),
        ("GET", f"/v1/transfers/{TXID}?from_account=a%20b", "invalid_request"),
        ("GET", "/v1/transfers/x?from_account=alice", "invalid_request"),
    ],
)
def test_malformed_path_or_query_is_refused(
    app: ASGIApp, wallet: WalletDouble, method: str, path: str, code: str
) -> None:
    assert_problem(call(app, method, path), 400, code)
    assert wallet.calls == []


def _misspelt() -> list[tuple[str, str]]:
    """Every endpoint under /v1, with what it needs and a parameter that no endpoint has."""
    found = []
    for endpoint in (endpoint for endpoint in ENDPOINTS if endpoint.bounded):
        path = re.sub(r"\{\w+\}", TXID, endpoint.template)
        needed = {"currency": "USD", "from_account": "alice", "account_id": "alice", "reference": "x"}
        query = urlencode([*((name, needed[name]) for name in endpoint.query), ("limt", "5")])
        found.append((endpoint.method, f"{path}?{query}"))
    return found


@pytest.mark.parametrize(("method", "path"), _misspelt())
def test_unknown_query_parameter_is_refused_everywhere(
    app: ASGIApp, wallet: WalletDouble, method: str, path: str
) -> None:
    """A service that writes `?limt=5` gets other data than it asked for, and never learns why."""
    problem = assert_problem(call(app, method, path), 400, "invalid_request")
    assert problem["detail"] == "unknown query parameter 'limt'"
    assert wallet.calls == []


WITHOUT_BODY = [
    (endpoint.method, re.sub(r"\{\w+\}", TXID, endpoint.template))
    for endpoint in ENDPOINTS
    if endpoint.method != "GET" and endpoint.request is None
]


@pytest.mark.parametrize(("method", "path"), WITHOUT_BODY)
@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"reason": "fraud"}', "unknown field 'reason'"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"reason=fraud", "JSON"),
    ],
)
def test_a_body_is_refused_where_nothing_would_be_done_with_it(
    app: ASGIApp, wallet: WalletDouble, method: str, path: str, body: bytes, named: str
) -> None:
    """A service that freezes "in 5 minutes" would freeze at once, and never learn why."""
    assert named in assert_problem(call(app, method, path, content=body), 400, "invalid_request")["detail"]
    assert wallet.calls == []


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_a_body_that_asks_for_nothing_is_taken(app: ASGIApp, wallet: WalletDouble, body: bytes) -> None:
    assert call(app, "POST", "/v1/accounts/alice/freeze", content=body).status_code == 200
    assert [name for name, _ in wallet.calls] == ["set_flags"]


@pytest.mark.parametrize("query", ["%FF=1", "=1", "currency=USD&currency=USD", "Currency=USD&currency=USD"])
def test_query_that_no_client_means_is_refused(app: ASGIApp, wallet: WalletDouble, query: str) -> None:
    path = f"/v1/accounts/alice/balance?currency=USD&{query}"
    assert_problem(call(app, "GET", path), 400, "invalid_request")
    assert wallet.calls == []


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/openapi.json"])
def test_probes_take_any_query(app: ASGIApp, path: str) -> None:
    assert call(app, "GET", f"{path}?_=123").status_code == 200


@pytest.mark.parametrize(
    ("key", "transaction_id"),
    [(TXID_2, TXID), ("x", ABSENT), ("x", TXID), ("", ABSENT), (TXID, "x"), (TXID, 1)],
)
def test_idempotency_key_that_does_not_fit_is_refused(
    app: ASGIApp, wallet: WalletDouble, key: str, transaction_id: object
) -> None:
    body = changed({"transaction_id": transaction_id})
    response = call(app, "POST", SINGLE, json=body, headers={"Idempotency-Key": key})
    assert_problem(response, 400, "invalid_request")
    assert wallet.calls == []


@pytest.mark.parametrize("amount", [1, 1.5, None, True, ["1.00"], {"a": 1}])
@pytest.mark.parametrize("call_", ["increase", "capture"])
def test_an_amount_that_is_no_text_is_refused_before_the_hold_is_looked_for(
    app: ASGIApp, wallet: WalletDouble, call_: str, amount: object
) -> None:
    """Of an increase it was looked at only when the hold was found, so the answer was hold_not_found."""
    body = {"account_id": "alice", "transaction_id": TXID_2, "amount": amount}
    if call_ == "capture" and amount is None:
        body["amount"] = 1
    assert_problem(call(app, "POST", f"/v1/holds/{TXID}/{call_}", json=body), 400, "invalid_amount")
    assert wallet.calls == []


def test_two_idempotency_keys_are_refused(app: ASGIApp) -> None:
    headers = [("Idempotency-Key", TXID), ("Idempotency-Key", TXID_2)]
    assert_problem(call(app, "POST", SINGLE, json=GOOD, headers=headers), 400, "invalid_request")


@pytest.mark.parametrize("path", [SINGLE, BATCH, "/v1/accounts"])
def test_body_over_the_limit_is_refused(app: ASGIApp, path: str) -> None:
    assert_problem(call(app, "POST", path, content=b" " * (BODY_BYTES_MAX + 1)), 413, "request_too_large")
    assert_problem(call(app, "POST", path, content=b" " * BODY_BYTES_MAX), 400, "invalid_request")


def test_batch_over_the_limit_is_refused(app: ASGIApp, wallet: WalletDouble) -> None:
    transfers = [GOOD] * (BATCH_CALL_TRANSFERS_MAX + 1)
    assert_problem(call(app, "POST", BATCH, json={"transfers": transfers}), 413, "request_too_large")
    transfers[0] = changed({"amount": 1})
    assert_problem(call(app, "POST", BATCH, json={"transfers": transfers}), 413, "request_too_large")
    assert wallet.calls == []
    assert call(app, "POST", BATCH, json={"transfers": transfers[1:]}).status_code == 200


ids = st.sampled_from(
    ["alice", "bob", "@bank", TRANSIT, "a" * 64, "a" * 65, "@" + "a" * 64, "", "a b", 7, None]
)
NEARLY_SIDES = [
    "@bank",
    TRANSIT,
    f"{TRANSIT}s",
    "a" * 64,
    "a" * 65,
    "",
    "a b",
    "a\n",
    "é",
    "a@",
    f"a {TRANSIT}",
    "bob",
]
NEARLY_AMOUNTS = [
    *(
        "12.34",
        "0.00",
        "9" * 16 + ".99",
        "9" * 17 + ".00",
        "1.23\n",
        "\n1.23",
        "1.00\n2.00",
        "1.2 ",
        "1_0.00",
        "١.23",
    ),
    *("1", "1.5", "1.234", "1.23.45", "-1.23", "90071992547409.91", "90071992547409.92"),
]
#: Text with the length of an id, with the same number of dashes or none.
NEARLY_IDS = [
    *(TXID[:-1], TXID + TXID, TXID[:-2] + " 1", TXID[:-2] + "\t\n", TXID[:-1] + "g", TXID[:-1] + "١"),
    *(TXID[:7] + "-" + TXID[7] + TXID[9:], TXID[:-1] + "-", TXID[:8] + "0" + TXID[9:], TXID.upper(), TXID_2),
    *(TXID.replace("-", " "), TXID.replace("-", ""), ""),
]
transfers_near_validity = st.fixed_dictionaries(
    {
        "from_account": ids,
        "to_account": ids,
        "amount": st.one_of(
            st.sampled_from(
                ["1", "0.01", "0", "1.5", "1.234", "1.2345", "1.", "9" * 16, "1" + "0" * 14, 1.5]
            ),
            st.text("0123456789.", max_size=20),
        ),
        "currency": st.sampled_from(["USD", "JPY", "KWD", "CLF", "usd", "XXX", None]),
        "transaction_id": st.one_of(
            st.uuids().map(str), st.uuids().map(lambda u: str(u).upper()), st.sampled_from([TXID[:-1], 5])
        ),
    },
    optional={"x": st.just("y")},
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # a loaded machine is slow
@given(st.lists(transfers_near_validity, max_size=3), st.booleans())
def test_fast_and_exact_path_agree(transfers: list[dict[str, Any]], escaped: bool) -> None:
    body = json.dumps({"transfers": transfers}).encode()
    if escaped:
        body = body.replace(b"amount", b"\\u0061mount").replace(b"alice", b"\\u0061lice")
    assert outcome(fastparse.parse_batch, body) == outcome(parse.parse_batch, body)
    for transfer in transfers:
        one = json.dumps(transfer).encode()
        assert outcome(fastparse.parse_transfer, one, None) == outcome(parse.parse_transfer, one, None)
        fast = fastparse._batch_without_fault(b'{"transfers":[' + one + b"]}")
        exact = outcome(parse.parse_transfer, one, None)
        assert (fast is None) == (exact[0] == "refused")


@pytest.mark.parametrize("currency", ["USD", "JPY", "KWD", "XXX"])
@pytest.mark.parametrize("position", [0, 2])
def test_fast_and_exact_path_agree_on_what_is_nearly_valid(currency: str, position: int) -> None:
    good = changed({"currency": currency, "amount": "5" if currency == "JPY" else "5.00"})
    for field, values in (
        ("from_account", NEARLY_SIDES),
        ("to_account", NEARLY_SIDES),
        ("amount", NEARLY_AMOUNTS),
        ("transaction_id", NEARLY_IDS),
        ("currency", ["USD", "JPY"]),
    ):
        for value in values:
            transfers = [dict(good), dict(good), dict(good)]
            transfers[position][field] = value
            body = json.dumps({"transfers": transfers}).encode()
            exact = outcome(parse.parse_batch, body)
            assert outcome(fastparse.parse_batch, body) == exact
            assert (fastparse._batch_without_fault(body) is None) == (exact[0] == "refused"), transfers
            one = json.dumps(transfers[position]).encode()
            exact = outcome(parse.parse_transfer, one, None)
            assert outcome(fastparse.parse_transfer, one, None) == exact
            assert (fastparse._transfer_without_fault(one) is None) == (exact[0] == "refused"), one


def test_transaction_ids_are_not_taken_for_valid_because_they_are_together() -> None:
    shifted = [changed({"transaction_id": TXID + TXID_2[:1]}), changed({"transaction_id": TXID_2[1:]})]
    assert fastparse._batch_without_fault(json.dumps({"transfers": shifted}).encode()) is None


def outcome(parser: Any, *arguments: Any) -> tuple[Any, ...]:
    try:
        return ("parsed", parser(*arguments))
    except Refused as refused:
        return ("refused", refused.code, refused.detail, refused.transaction_id)
