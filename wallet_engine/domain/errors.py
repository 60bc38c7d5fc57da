"""The kinds of failure that are exceptions. A refusal is a value (`Outcome`).

`InvalidInput`  the caller's fault, found before anything was sent anywhere.
`Forbidden`     the caller may not do it, found before anything was sent anywhere.
`RateLimited`   the caller asks too often, found before anything was sent anywhere.
`Outage`        the engine cannot do it now; its code says whether anything may have happened.
`Corruption`    a bug or a damaged file: stops the partition or the process, is never retried.
`ConfigError`   a setting is wrong; its text is the one line the operator reads.
`WrongUsage`    the command line is wrong, which needs no look at the cluster.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class WalletError(Exception):
    """Base of every exception that this package raises on purpose."""


class InvalidInput(WalletError):
    """The request is malformed. `code` is a stable code of the HTTP contract (a 400)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Forbidden(WalletError):
    """The caller may not do this (a 403); the text names the missing grant. Nothing was done."""


class RateLimited(WalletError):
    """The caller asks too often, or has too much in flight (a 429). Nothing was done."""

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Outage(WalletError):
    """The engine cannot answer now (a 503). Retrying with the same transaction id is always safe.

    `code` is `overloaded`, `partition_unavailable`, `journal_unavailable` or `outcome_unknown`. Every code
    but `outcome_unknown` promises that nothing was done and nothing will be.

    `detail` is for callers. `why` is for operators, since it may name hosts: only `str()` and logs have it.
    """

    def __init__(self, code: str, detail: str, *, retry_after_s: int = 1, why: str = "") -> None:
        super().__init__(f"{detail}: {why}" if why else detail)
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.why = why


class Corruption(WalletError):
    """A state that must never exist: a fork, a broken frame, an outcome that replay does not reproduce."""


class NewerFormat(WalletError):
    """Data that a later version of this program wrote, in a form unknown to this one.

    The data is not damaged.
    """

    def __init__(self, what: str, found: int, known: int) -> None:
        """`what` begins the sentence: `entry 7 is of rules`."""
        super().__init__(
            f"{what} {found}, and this program knows them up to {known}: a later version of it wrote that. "
            f"Run that version here (wallet-admin status shows who runs which), or a later one"
        )


class ConfigError(WalletError):
    """A setting or the environment is wrong; the text says in one line what to change."""


class WrongUsage(ConfigError):
    """The command line is wrong, whatever the state of the cluster is: exit status 2."""


@contextmanager
def as_usage() -> Iterator[None]:
    """Raise a `ConfigError` of the block as `WrongUsage`: the block checks nothing but the command line."""
    try:
        yield
    except ConfigError as error:
        raise WrongUsage(str(error)) from None


def text_of(error: BaseException) -> str:
    """The text of an error on one line; the name of its class when it has no text, as with a timeout."""
    return " ".join(str(error).split()) or type(error).__name__
