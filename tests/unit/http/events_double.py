"""An event log and a store of webhooks with scripted answers, for tests of HTTP alone."""

from typing import Any

import msgspec

from wallet_engine.service.events import GuardedEvents
from wallet_engine.webhooks.endpoint import Endpoint
from wallet_engine.webhooks.log import Logged, Place
from wallet_engine.webhooks.store import DeliveryView

WEBHOOK_ID = "wh_" + "a" * 24
ENDPOINT = Endpoint(
    *(WEBHOOK_ID, "https://example.com/hook", ("posting",), ("shop-*",), "ours", "enabled", ""),
    *("whsec_new", "whsec_old", 1_700_086_400.0, 1_700_000_000.0, 7, 0, 0),
)
DELIVERY = DeliveryView(
    *(9, "3.17.0", "posting", "shop-1", "pending", 2, 1_700_000_300.0),
    *(1_700_000_000.0, 1_700_000_001.0, 500, ""),
)
EVENT = Logged(5, 2, "3.17.0", "posting", "shop-1", ["shop-1"], msgspec.Raw(b'{"id":"3.17.0"}'))


class EventsDouble:
    """Log and store in one. A method returns `answers[method]`; `calls` has (method, arguments)."""

    def __init__(self, calls: list[tuple[str, tuple[Any, ...]]]) -> None:
        self.calls = calls
        self.answers: dict[str, Any] = {
            "read": ([EVENT], Place(5, 2)),
            "wait_beyond": False,
            "create": ENDPOINT,
            "all": [ENDPOINT],
            "get": ENDPOINT,
            "change": ENDPOINT,
            "delete": True,
            "rotate": ENDPOINT,
            "add_test": True,
            "replay": ENDPOINT,
            "deliveries": [DELIVERY],
        }

    def __getattr__(self, name: str) -> Any:
        async def answer(*arguments: Any, **named: Any) -> Any:
            self.calls.append((name, (*arguments, *named.items())))
            found = self.answers[name]
            if isinstance(found, Exception):
                raise found
            return found

        return answer

    def guarded(self, *, allow_private: bool = True) -> GuardedEvents:
        double: Any = self
        return GuardedEvents(double, double, allow_private=allow_private)
