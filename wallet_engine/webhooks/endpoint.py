"""An endpoint: where events are sent, which ones, and how they are signed."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.patterns import compile_patterns, is_pattern, is_system_pattern
from wallet_engine.events.event import TYPES

ENABLED: Final = "enabled"
DISABLED: Final = "disabled"

WEBHOOKS_MAX: Final = 200
PATTERNS_MAX: Final = 50
DESCRIPTION_LENGTH_MAX: Final = 200
#: `*` for every type, and `hold.*` for every type with this prefix.
_WHOLE: Final = {"*", *(f"{name.partition('.')[0]}.*" for name in TYPES if "." in name)}

_id_match = re.compile(r"wh_[0-9a-f]{24}\Z").match


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint as it is stored; times are Unix seconds."""

    webhook_id: str
    url: str
    types: tuple[str, ...]
    accounts: tuple[str, ...]
    description: str
    status: str
    #: Why it is disabled.
    reason: str
    secret: str
    #: The secret before a rotation, and until when it signs too.
    previous_secret: str
    previous_until_s: float
    created_s: float
    #: Number of the event log's row up to which deliveries have been made.
    position: int
    #: Changes when deliveries were removed, so that deliveries in memory are outdated.
    version: int
    #: Changes when another process added a delivery.
    poked: int

    def __repr__(self) -> str:
        return f"<Endpoint {self.webhook_id} {self.status} position={self.position}>"

    def secrets_at(self, now_s: float) -> list[str]:
        """The secrets that sign at that time, the newest first."""
        old = self.previous_secret
        return [self.secret, old] if old and now_s < self.previous_until_s else [self.secret]


class Filter:
    """The events that an endpoint gets."""

    __slots__ = ("_accounts", "types")

    def __init__(self, types: Sequence[str], accounts: Sequence[str]) -> None:
        """Without `accounts` (patterns), events of every account pass."""
        self.types = frozenset(name for name in TYPES if any(_covers(given, name) for given in types))
        self._accounts = re.compile(rf"{compile_patterns(accounts)}\Z").match if accounts else None

    def __repr__(self) -> str:
        return f"<Filter types={len(self.types)}>"

    def passes(self, type_: str, accounts: Sequence[str]) -> bool:
        if type_ not in self.types:
            return False
        match = self._accounts
        return match is None or any(match(account) for account in accounts)


def _covers(given: str, name: str) -> bool:
    return given in ("*", name) or (given.endswith(".*") and name.startswith(given[:-1]))


def new_webhook_id() -> str:
    return f"wh_{secrets.token_hex(12)}"


def is_webhook_id(text: str) -> bool:
    return _id_match(text) is not None


def check_types(given: object) -> tuple[str, ...]:
    """Check types of events. Raises `InvalidInput`."""
    if not isinstance(given, list) or not given or len(given) > len(TYPES) + len(_WHOLE):
        raise InvalidInput("invalid_request", "types must be a list of types of events, or *")
    for name in given:
        if not isinstance(name, str) or not (name in TYPES or name in _WHOLE):
            raise InvalidInput("invalid_request", f"types: {_shown(name)} is none of {', '.join(TYPES)}")
    return tuple(dict.fromkeys(given))


def check_accounts(given: object) -> tuple[str, ...]:
    """Check patterns of accounts. Raises `InvalidInput`."""
    if not isinstance(given, list) or len(given) > PATTERNS_MAX:
        raise InvalidInput("invalid_request", f"accounts must be a list of at most {PATTERNS_MAX} patterns")
    for pattern in given:
        if not isinstance(pattern, str) or not (is_pattern(pattern) or is_system_pattern(pattern)):
            raise InvalidInput("invalid_request", f"accounts: {_shown(pattern)} is no pattern such as shop-*")
    return tuple(dict.fromkeys(given))


def check_description(given: object) -> str:
    """Raises `InvalidInput`."""
    if not isinstance(given, str) or len(given) > DESCRIPTION_LENGTH_MAX or not (given.isprintable()):
        text = f"description must be at most {DESCRIPTION_LENGTH_MAX} printable characters"
        raise InvalidInput("invalid_request", text)
    return given


def _shown(given: Any) -> str:
    return f"{str(given)[:80]!a}"
