"""Whether a webhook is the wallet's: Standard Webhooks, https://www.standardwebhooks.com."""

from collections.abc import Mapping
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


class ForgedWebhook(Exception):
    """Nobody who knows the secret has signed this, or not just now."""


def verify_webhook(body: bytes | str, headers: Mapping[str, str], secret: str) -> Any:
    """The event in the body. Raises `ForgedWebhook`; `secret` is `whsec_…`, headers are in any case of letters.

    It must be signed within five minutes of now, so that one that was overheard is no use later.
    """
    try:
        return Webhook(secret).verify(body, dict(headers))
    except (WebhookVerificationError, ValueError) as error:
        raise ForgedWebhook(str(error)) from None
