"""A child that listens on a port of its own, which another process may have taken since it was chosen."""

from abc import abstractmethod
from typing import Final

from wallet_engine.dev import ports
from wallet_engine.dev.process import Child, StartFailed

#: A port that was free may be taken before the child has it.
START_TRIES_MAX: Final = 5


class PortedChild(Child):
    """`port` 0: `start` takes one that is free."""

    port: int

    @abstractmethod
    def wait_serving(self) -> None:
        """Return when it serves. Raises `StartFailed`."""

    def start_and_wait(self) -> None:
        """Start, on another port if the wanted one is taken, and return when it serves. Raises `StartFailed`."""
        for attempt in range(1, START_TRIES_MAX + 1):
            if self.port and not ports.port_is_free(self.port):
                self.port = 0
            self.start()
            try:
                self.wait_serving()
            except StartFailed:
                self.kill()
                if attempt == START_TRIES_MAX or ports.port_is_free(self.port):
                    raise
            else:
                return
