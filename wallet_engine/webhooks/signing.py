"""Signatures of deliveries, as specified by standardwebhooks.com."""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

SECRET_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32
#: How long after a rotation deliveries are also signed with the previous secret.
ROTATION_S: Final = 24 * 3600


def new_secret() -> str:
    """`whsec_` and 256 random bits in base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(
    secrets_in_force: Sequence[str], message_id: str, at_s: float, body: bytes
) -> dict[str, str]:
    """The three headers, with a signature for each secret, the newest first.

    `at_s` is the time of sending, Unix seconds: receivers refuse old signatures.
    """
    text, at = body.decode(), datetime.fromtimestamp(int(at_s), UTC)
    signatures = [Webhook(secret).sign(message_id, at, text) for secret in secrets_in_force]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at_s)),
        "webhook-signature": " ".join(signatures),
    }
