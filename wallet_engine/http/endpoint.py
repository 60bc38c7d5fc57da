"""An endpoint: the row from which its route and its OpenAPI entry are made, and the argument of its handler."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from msgspec import Struct
from starlette.types import Receive, Scope

from wallet_engine.http.body import BodyReader
from wallet_engine.http.gate import Gate, Visit
from wallet_engine.http.parse import check_shape, load_object
from wallet_engine.http.problems import Answer, Refused
from wallet_engine.http.uncancelled import Uncancelled
from wallet_engine.service.events import GuardedEvents
from wallet_engine.service.guarded import GuardedWallet
from wallet_engine.service.history import GuardedHistory
from wallet_engine.service.turns import Turns
from wallet_engine.telemetry.metrics import Metrics


class Services(NamedTuple):
    """The objects that handlers use."""

    wallet: GuardedWallet
    bodies: BodyReader
    calls: Uncancelled
    metrics: Metrics
    turns: Turns
    gate: Gate
    #: The OpenAPI document, and the page made from it. The first call takes some 40 ms.
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
        #: Set by the handler as soon as it is known, so that later errors can name it.
        self.transaction_id: str | None = None

    async def body(self) -> bytes:
        """The whole body. Raises `Refused` (too large, too slow, overloaded) and `ClientGone`."""
        return await self.services.bodies.read(self._scope, self._receive)

    def path(self, name: str) -> str:
        """A parameter of the path, decoded."""
        return unquote(self._path_params[name])

    def query(self, name: str) -> str:
        """A required query parameter, given once. Raises `Refused`."""
        value = self.optional(name)
        if value is None:
            raise Refused("invalid_request", f"query parameter {name} is missing")
        return value

    def optional(self, name: str) -> str | None:
        """An optional query parameter, given at most once. Raises `Refused`."""
        query_string = self._scope["query_string"].decode("latin-1")
        values: list[str] = parse_qs(query_string, keep_blank_values=True).get(name, [])
        if len(values) > 1:
            raise Refused("invalid_request", f"query parameter {name} is given twice")
        return values[0] if values else None

    def check_query(self, endpoint: "Endpoint") -> None:
        """Raises `Refused` for a query parameter that the endpoint does not have: a misspelt one would do nothing.

        Probes, metrics and documents take any: proxies and caches add their own.
        """
        query_string = self._scope.get("query_string", b"")
        if not query_string or not endpoint.bounded:
            return
        for name in parse_qs(query_string.decode("latin-1"), keep_blank_values=True):
            if name not in endpoint.query and name not in endpoint.optional_query:
                # Escaped and cut, as an unknown field.
                raise Refused("invalid_request", f"unknown query parameter {name[:64]!a}")

    async def check_no_body(self, endpoint: "Endpoint") -> None:
        """Raises `Refused` for a body where the endpoint takes none, other than `{}`: what it asks for is not done."""
        if endpoint.request is None and (body := await self.body()):
            check_shape(load_object(body), frozenset(), ())

    def header(self, name: bytes) -> str | None:
        """An optional header; it may be repeated with the same value. Raises `Refused`."""
        values = {value for key, value in self._scope["headers"] if key == name}
        if len(values) > 1:
            raise Refused("invalid_request", f"{name.decode().title()} is given twice")
        return values.pop().decode("latin-1").strip() if values else None


Handler = Callable[[Request], Awaitable[Answer]]


class Endpoint(NamedTuple):
    """One row. `codes`: the problems it can answer, beside those of every endpoint."""

    method: str
    template: str
    handler: Handler
    summary: str
    #: Status -> type of the body; None: a body of type `media`.
    answers: dict[int, type[Struct] | None]
    codes: tuple[str, ...] = ()
    request: type[Struct] | None = None
    query: tuple[str, ...] = ()
    optional_query: tuple[str, ...] = ()
    #: Its `account_id` must not be a system account.
    ordinary: bool = False
    replayable: bool = False
    media: str = "text/plain"
    #: Counts as a request in flight, and is refused when there are too many. Not for probes and metrics.
    bounded: bool = True
    #: Needs no key.
    public: bool = False
    #: It starts a payment, so it is refused while the cluster is paused.
    pays: bool = False
    #: One call is little work, so batches of other callers do not go first.
    small: bool = True
