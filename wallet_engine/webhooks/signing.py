"""Signatures of what is sent, as standardwebhooks.com has them."""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

SECRET_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32
#: How long what is sent is also signed with the secret of before a rotation.
ROTATION_S: Final = 24 * 3600


def new_secret() -> str:
    """`whsec_` and 256 random bits in base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(
    secrets_in_force: Sequence[str], message_id: str, at_s: float, body: bytes
) -> dict[str, str]:
    """The three headers; a signature for each secret, the newest first.

    `at_s` is when it is sent, Unix time: receivers refuse what was signed long ago.
    """
    text, at = body.decode(), datetime.fromtimestamp(int(at_s), UTC)
    signatures = [Webhook(secret).sign(message_id, at, text) for secret in secrets_in_force]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at_s)),
        "webhook-signature": " ".join(signatures),
    }
