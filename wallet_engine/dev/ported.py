"""A child process with a port. Another process may take the port after it was chosen, so the start is retried."""

from abc import abstractmethod
from typing import Final

from wallet_engine.dev import ports
from wallet_engine.dev.process import Child, StartFailed

#: Starts, each on another port: a free port may be taken before the child binds it.
START_TRIES_MAX: Final = 5


class PortedChild(Child):
    """A child that listens on `port`; 0 means that `start` chooses a free port."""

    port: int

    @abstractmethod
    def wait_serving(self) -> None:
        """Return when the child serves. Raises `StartFailed`."""

    def start_and_wait(self) -> None:
        """Start, on another port if `port` is taken, and return when the child serves. Raises `StartFailed`."""
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
