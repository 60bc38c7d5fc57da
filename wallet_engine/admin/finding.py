"""One thing that is wrong with a cluster, or will be."""

from dataclasses import asdict, dataclass
from typing import Any

from wallet_engine.domain.addresses import split_address


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` is the command, or what to do where no command can.

    Of severity `critical` nothing at all can be paid; an `error` endangers money or payments now, a `warning` will, a
    `note` is worth knowing.
    """

    check: str
    severity: str
    what: str
    mend: str

    def document(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def harmful(self) -> bool:
        """Whether a cluster with it is not healthy."""
        return self.severity in ("critical", "error")


def redis_cli(address: str, command: str) -> str:
    """The command line that has one node execute a command."""
    host, port = split_address(address)
    return f"redis-cli -h {host} -p {port} {command}"
