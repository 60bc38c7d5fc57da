"""Events and webhooks by HTTP: bodies, limits and codes."""

from typing import Any

import asyncpg
import pytest
from starlette.types import ASGIApp
from unit.http.events_double import DELIVERY, ENDPOINT, WEBHOOK_ID, EventsDouble
from unit.http.wallet_double import WalletDouble, assert_problem, call

from wallet_engine.history.database import HistoryUnavailable
from wallet_engine.http import problems
from wallet_engine.http.application import create_app
from wallet_engine.webhooks.log import START, EventsRemoved, OfAnotherLog, Place
from wallet_engine.webhooks.store import TooMany

URL = "https://example.com/hook"
ONE = f"/v1/webhooks/{WEBHOOK_ID}"


@pytest.fixture
def double() -> EventsDouble:
    return EventsDouble([])


@pytest.fixture
def events_app(double: EventsDouble) -> ASGIApp:
    return create_app(WalletDouble(), events=double.guarded())


def test_without_a_database_there_is_none(app: ASGIApp) -> None:
    for method, path in (("GET", "/v1/events"), ("GET", "/v1/webhooks"), ("DELETE", ONE)):
        response = call(app, method, path)
        assert (response.status_code, response.json()["code"]) == (501, "history_not_configured")


def test_a_database_that_is_away_is_503(
    events_app: ASGIApp, double: EventsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G13: its words name hosts, users and columns. They are for the log, once a minute, and not for callers."""
    logged: list[str] = []
    monkeypatch.setattr(problems, "_whys", problems._Whys())
    monkeypatch.setattr(problems._log, "warning", lambda event, **more: logged.append(more["why"]))
    double.answers["read"] = ConnectionRefusedError(111, "Connect call failed ('10.0.0.9', 5432)")
    double.answers["all"] = asyncpg.PostgresError('permission denied for table "webhooks"')
    for path in ("/v1/events", "/v1/webhooks"):
        response = call(events_app, "GET", path)
        assert (response.status_code, response.json()["code"]) == (503, "history_unavailable")
        assert response.json()["detail"] == "the history store does not answer"
        assert response.headers["retry-after"]
    assert logged == ["[Errno 111] Connect call failed ('10.0.0.9', 5432)"]
    assert str(HistoryUnavailable(ValueError("why"))) == "the history store does not answer: why"


def test_events_and_where_the_next_ones_are(events_app: ASGIApp, double: EventsDouble) -> None:
    first = call(events_app, "GET", "/v1/events").json()
    assert first["events"] == [{"id": "3.17.0"}]
    assert double.calls[-1] == ("read", (START, 50, None, None))
    query = f"after={first['next']}&types=posting,hold.*&account=shop-1&limit=200&wait_s=0"
    call(events_app, "GET", f"/v1/events?{query}")
    holds = ["hold.captured", "hold.expired", "hold.increased", "hold.placed", "hold.voided"]
    assert double.calls[-1] == ("read", (Place(5, 2), 200, [*holds, "posting"], "shop-1"))


def test_a_place_says_in_which_log_it_is(events_app: ASGIApp, double: EventsDouble) -> None:
    for place in (Place(5, 2), Place(5, 2, 0), Place(5, 2, 2**62 - 1)):
        double.answers["read"] = ([], place)
        given = call(events_app, "GET", "/v1/events").json()["next"]
        call(events_app, "GET", f"/v1/events?after={given}")
        assert double.calls[-1] == ("read", (place, 50, None, None))


def test_events_that_were_removed_are_410(events_app: ASGIApp, double: EventsDouble) -> None:
    for error, why in ((EventsRemoved(), "were removed: "), (OfAnotherLog(), "belongs to another log: ")):
        double.answers["read"] = error
        response = call(events_app, "GET", "/v1/events?after=MTIuMw")
        assert_problem(response, 410, "events_expired")
        assert why in response.json()["detail"]


def test_who_waits_is_answered_when_the_time_is_over(events_app: ASGIApp, double: EventsDouble) -> None:
    double.answers["read"] = ([], Place(5, 2))
    answer = call(events_app, "GET", "/v1/events?after=NS4y&wait_s=0.2").json()
    assert answer == {"events": [], "next": "NS4y"}
    assert [name for name, _ in double.calls] == ["read", "wait_beyond"]


@pytest.mark.parametrize(
    "query",
    [
        *("after=", "after=%21", "after=bm9uZQ", "after=NS4y&after=NS4y", "types=", "types=nothing"),
        *("types=posting,", "account=", "account=a%20b", "limit=0", "limit=201", "limit=x", "limit=-1"),
        *("wait_s=31", "wait_s=-1", "wait_s=x", "wait_s=", "wait_s=nan", "after=LTUuMg"),
    ],
)
def test_questions_that_make_no_sense(events_app: ASGIApp, double: EventsDouble, query: str) -> None:
    response = call(events_app, "GET", f"/v1/events?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert double.calls == []


def test_the_secret_is_shown_once(events_app: ASGIApp, double: EventsDouble) -> None:
    body = {"url": URL, "types": ["posting", "posting"], "accounts": ["shop-*"], "description": "ours"}
    made = call(events_app, "POST", "/v1/webhooks", json=body)
    assert made.status_code == 201
    assert made.json()["secret"] == ENDPOINT.secret
    (created,) = double.calls[-1][1]
    assert (created.url, created.types, created.accounts, created.description) == (
        *(URL, ("posting",), ("shop-*",), "ours"),
    )
    assert created.secret.startswith("whsec_")
    shown = {
        "webhook_id": WEBHOOK_ID,
        "url": URL,
        "types": ["posting"],
        "accounts": ["shop-*"],
        "description": "ours",
        "status": "enabled",
        "created_at": "2023-11-14T22:13:20.000Z",
    }
    assert call(events_app, "GET", ONE).json() == shown
    assert call(events_app, "GET", "/v1/webhooks").json() == {"webhooks": [shown]}


@pytest.mark.parametrize(
    "change",
    [
        *({"url": None}, {"url": "nothing"}, {"types": []}, {"types": ["x"]}, {"types": "posting"}),
        *({"types": [7]}, {"accounts": ["a b"]}, {"accounts": "a"}, {"accounts": [None]}),
        *({"accounts": ["a*b*c*"]}, {"description": "x" * 201}, {"description": "\n"}, {"more": 1}),
    ],
)
def test_wishes_that_make_no_sense(events_app: ASGIApp, double: EventsDouble, change: dict[str, Any]) -> None:
    response = call(events_app, "POST", "/v1/webhooks", json={"url": URL, "types": ["*"], **change})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert double.calls == []


@pytest.mark.parametrize("field", ["url", "types", "accounts", "description", "status"])
def test_no_change_is_null(events_app: ASGIApp, double: EventsDouble, field: str) -> None:
    response = call(events_app, "PATCH", ONE, json={"description": "x", field: None})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert response.json()["detail"] == f"{field} must not be null"
    assert double.calls == []


@pytest.mark.parametrize("field", ["url", "types"])
def test_a_new_webhook_needs_both(events_app: ASGIApp, double: EventsDouble, field: str) -> None:
    wish = {"url": "https://shop.example/hook", "types": ["*"], "accounts": None, "description": None}
    response = call(events_app, "POST", "/v1/webhooks", json={**wish, field: None})
    assert (response.status_code, response.json()["detail"]) == (400, f"{field} must not be null")
    assert double.calls == []
    assert call(events_app, "POST", "/v1/webhooks", json=wish).status_code == 201


def test_addresses_inside_are_refused(double: EventsDouble) -> None:
    app = create_app(WalletDouble(), events=double.guarded(allow_private=False))
    for url in (
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://169.254.169.254/",
        "http://example.com/",
    ):
        response = call(app, "POST", "/v1/webhooks", json={"url": url, "types": ["*"]})
        assert (response.status_code, response.json()["code"]) == (400, "invalid_request"), url
        response = call(app, "PATCH", ONE, json={"url": url})
        assert (response.status_code, response.json()["code"]) == (400, "invalid_request"), url
    assert double.calls == []


def test_there_are_so_many_at_most(events_app: ASGIApp, double: EventsDouble) -> None:
    double.answers["create"] = TooMany("there are 200 endpoints, which is the most")
    response = call(events_app, "POST", "/v1/webhooks", json={"url": URL, "types": ["*"]})
    assert (response.status_code, "the most" in response.json()["detail"]) == (400, True)


def test_changes_and_what_follows(events_app: ASGIApp, double: EventsDouble) -> None:
    assert call(events_app, "PATCH", ONE, json={"status": "disabled"}).status_code == 200
    assert double.calls[-1][1][-1] == ("enabled", False)
    assert call(events_app, "PATCH", ONE, json={}).status_code == 400
    assert call(events_app, "PATCH", ONE, json={"status": "off"}).status_code == 400
    rotated = call(events_app, "POST", f"{ONE}/rotate").json()
    assert rotated == {
        "webhook_id": WEBHOOK_ID,
        "secret": "whsec_new",
        "previous_until": "2023-11-15T22:13:20.000Z",
    }
    sent = call(events_app, "POST", f"{ONE}/test")
    assert (sent.status_code, sent.json()["webhook_id"]) == (202, WEBHOOK_ID)
    replayed = call(events_app, "POST", f"{ONE}/replay", json={"from": "2026-11-21T10:00:00+01:00"})
    assert replayed.status_code == 202
    assert double.calls[-1] == ("replay", (WEBHOOK_ID, 1_795_251_600.0))
    deleted = call(events_app, "DELETE", ONE)
    assert (deleted.status_code, deleted.content) == (204, b"")


@pytest.mark.parametrize(
    "given",
    [
        *(
            None,
            7,
            "",
            "2026-11-21",
            "2026-11-21T10:00:00",
            "2026-13-21T10:00:00Z",
            "2026-11-21T10:00:00+01:75",
        ),
        *("0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"),  # there is no such date in UTC
    ],
)
def test_times_that_are_none(events_app: ASGIApp, double: EventsDouble, given: Any) -> None:
    response = call(events_app, "POST", f"{ONE}/replay", json={"from": given})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")


def test_deliveries_in_pages(events_app: ASGIApp, double: EventsDouble) -> None:
    double.answers["deliveries"] = [DELIVERY._replace(delivery_id=number) for number in (9, 8, 7)]
    answer = call(events_app, "GET", f"{ONE}/deliveries?status=pending&limit=2").json()
    assert len(answer["deliveries"]) == 2
    assert answer["deliveries"][0] == {
        "event_id": "3.17.0",
        "type": "posting",
        "subject": "shop-1",
        "status": "pending",
        "attempts": 2,
        "created_at": "2023-11-14T22:13:20.000Z",
        "next_at": "2023-11-14T22:18:20.000Z",
        "tried_at": "2023-11-14T22:13:21.000Z",
        "answer": 500,
        "error": "",
    }
    cursor = answer["next_cursor"]
    call(events_app, "GET", f"{ONE}/deliveries?status=pending&cursor={cursor}")
    assert double.calls[-1] == ("deliveries", (WEBHOOK_ID, "pending", 51, 8))
    for query in ("status=lost", "limit=0"):
        assert_problem(call(events_app, "GET", f"{ONE}/deliveries?{query}"), 400, "invalid_request")
    for query in ("cursor=x", f"cursor={cursor}", f"status=parked&cursor={cursor}"):
        assert_problem(call(events_app, "GET", f"{ONE}/deliveries?{query}"), 400, "cursor_mismatch")


def test_what_is_not_there(events_app: ASGIApp, double: EventsDouble) -> None:
    for method in ("get", "change", "rotate", "replay"):
        double.answers[method] = None
    double.answers["delete"] = double.answers["add_test"] = False
    calls: list[tuple[str, str, Any]] = [
        ("GET", ONE, None),
        ("PATCH", ONE, {"description": "x"}),
        ("DELETE", ONE, None),
        ("POST", f"{ONE}/rotate", None),
        ("POST", f"{ONE}/test", None),
        ("POST", f"{ONE}/replay", {"from": "2026-11-21T10:00:00Z"}),
        ("GET", f"{ONE}/deliveries", None),
        ("GET", "/v1/webhooks/wh_x", None),
        ("GET", "/v1/webhooks/x%2Fy", None),
    ]
    for method, path, body in calls:
        response = call(events_app, method, path, json=body) if body else call(events_app, method, path)
        assert (response.status_code, response.json()["code"]) == (404, "webhook_not_found"), (method, path)
