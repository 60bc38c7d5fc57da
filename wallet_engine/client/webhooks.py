"""Checks the signature of webhooks: Standard Webhooks, https://www.standardwebhooks.com."""

from collections.abc import Mapping
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


class ForgedWebhook(Exception):
    """The signature is wrong or missing, or its time is more than five minutes away from now."""


def verify_webhook(body: bytes | str, headers: Mapping[str, str], secret: str) -> Any:
    """Check the signature of a webhook, and return its event: the JSON of the body. Raises `ForgedWebhook`.

    `body`: exactly as received. `headers`: names in upper or lower case. `secret`: `whsec_…`. The time of the
    signature must be within five minutes of now, so that a recorded request cannot be sent again later.
    """
    try:
        return Webhook(secret).verify(body, dict(headers))
    except (WebhookVerificationError, ValueError) as error:
        raise ForgedWebhook(str(error)) from None
