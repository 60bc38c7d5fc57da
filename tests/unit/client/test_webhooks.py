"""Only a valid and recent signature makes a webhook the service's."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from wallet_engine.client import ForgedWebhook, verify_webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = json.dumps({"type": "transfer.paid", "amount": "12.34"}).encode()


def signed(body: bytes = BODY, secret: str = SECRET, age: timedelta = timedelta()) -> dict[str, str]:
    at = datetime.now(UTC) - age
    signature = Webhook(secret).sign("msg_1", at, body.decode())
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": signature,
    }


def test_what_is_signed_is_taken() -> None:
    assert verify_webhook(BODY, signed(), SECRET)["amount"] == "12.34"


def test_one_of_two_secrets_is_enough() -> None:
    old = signed(secret="whsec_" + "b2xkb2xkb2xkb2xkb2xkb2xkb2xk")
    both = signed() | {"Webhook-Signature": f"{old['Webhook-Signature']} {signed()['Webhook-Signature']}"}
    assert verify_webhook(BODY, both, SECRET)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY.replace(b"12.34", b"92.34"), signed()),
        (BODY, signed(secret="whsec_" + "b2xkb2xkb2xkb2xkb2xkb2xkb2xk")),
        (BODY, signed(age=timedelta(minutes=6))),
        (BODY, signed() | {"Webhook-Id": "msg_2"}),
        (BODY, signed() | {"Webhook-Signature": "nonsense"}),
        (BODY, {}),
    ],
    ids=["changed", "other secret", "old", "other id", "no signature", "no headers"],
)
def test_what_is_not_is_not(body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(ForgedWebhook):
        verify_webhook(body, headers, SECRET)
