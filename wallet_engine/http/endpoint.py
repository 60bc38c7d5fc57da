"""An endpoint: the row that makes its route and its entry in the OpenAPI document, and what its handler takes."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from msgspec import Struct
from starlette.types import Receive, Scope

from wallet_engine.http.body import BodyReader
from wallet_engine.http.gate import Gate, Visit
from wallet_engine.http.problems import Answer, Refused
from wallet_engine.http.uncancelled import Uncancelled
from wallet_engine.service.events import GuardedEvents
from wallet_engine.service.guarded import GuardedWallet
from wallet_engine.service.history import GuardedHistory
from wallet_engine.service.turns import Turns
from wallet_engine.telemetry.metrics import Metrics


class Services(NamedTuple):
    """What handlers work with."""

    wallet: GuardedWallet
    bodies: BodyReader
    calls: Uncancelled
    metrics: Metrics
    turns: Turns
    gate: Gate
    #: The OpenAPI document, and the page made of it. The first call computes for some 40 ms.
    described: Callable[[], tuple[bytes, bytes]]
    #: None without a database.
    events: GuardedEvents | None = None
    history: GuardedHistory | None = None


class Request:
    """One request that the gate has let in."""

    __slots__ = ("_path_params", "_receive", "_scope", "services", "transaction_id", "visit")

    def __init__(
        self, visit: Visit, services: Services, scope: Scope, receive: Receive, path_params: dict[str, str]
    ) -> None:
        self.visit = visit
        self.services = services
        self._scope = scope
        self._receive = receive
        self._path_params = path_params
        #: Set by the handler once it is known, so that a problem raised by anything below can name it.
        self.transaction_id: str | None = None

    async def body(self) -> bytes:
        """The whole body. Raises `Refused` (too large, too slow, overloaded) and `ClientGone`."""
        return await self.services.bodies.read(self._scope, self._receive)

    def path(self, name: str) -> str:
        """A parameter of the path, decoded."""
        return unquote(self._path_params[name])

    def query(self, name: str) -> str:
        """A query parameter that must be there once. Raises `Refused`."""
        value = self.optional(name)
        if value is None:
            raise Refused("invalid_request", f"query parameter {name} is missing")
        return value

    def optional(self, name: str) -> str | None:
        """A query parameter that may be there once. Raises `Refused`."""
        query_string = self._scope["query_string"].decode("latin-1")
        values: list[str] = parse_qs(query_string, keep_blank_values=True).get(name, [])
        if len(values) > 1:
            raise Refused("invalid_request", f"query parameter {name} is given twice")
        return values[0] if values else None

    def header(self, name: bytes) -> str | None:
        """A header that may be there once, in however many lines of one value. Raises `Refused`."""
        values = {value for key, value in self._scope["headers"] if key == name}
        if len(values) > 1:
            raise Refused("invalid_request", f"{name.decode().title()} is given twice")
        return values.pop().decode("latin-1").strip() if values else None


Handler = Callable[[Request], Awaitable[Answer]]


class Endpoint(NamedTuple):
    """One row. `codes` are the problems it can answer besides those that every endpoint can."""

    method: str
    template: str
    handler: Handler
    summary: str
    #: Status -> type of the body; None is what `media` says.
    answers: dict[int, type[Struct] | None]
    codes: tuple[str, ...] = ()
    request: type[Struct] | None = None
    query: tuple[str, ...] = ()
    optional_query: tuple[str, ...] = ()
    #: Its `account_id` is no system account.
    ordinary: bool = False
    replayable: bool = False
    media: str = "text/plain"
    #: Refused when too many requests are in flight, among which it counts. What watches the process does not.
    bounded: bool = True
    #: Needs no key.
    public: bool = False
    #: It begins to move money, so it is refused while the cluster is paused.
    pays: bool = False
    #: One call is little work: others' batches do not go before it.
    small: bool = True
