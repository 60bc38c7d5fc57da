"""TLS settings of a client: trusted authorities and own certificate. The files are read for each connection."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from wallet_engine.domain.errors import ConfigError, WrongUsage
from wallet_engine.telemetry.revoked import hold_to_list
from wallet_engine.telemetry.secrets import check_secret_file


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Without `ca`: plain TCP. With `ca`: TLS, and the server's name is checked."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext | None:
        """The TLS context; None for plain TCP. Raises OSError (`ssl.SSLError` is one) for unusable files."""
        if self.ca is None:
            return None
        context = ssl.create_default_context(cafile=str(self.ca))
        hold_to_list(context, self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context

    def check(self, server: str) -> None:
        """Raises `ConfigError` for flags that do not fit together, and for unusable files.

        `server`: the name for errors; in lower case it begins the flags: `--<server>-ca`, `-cert` and `-key`.
        """
        flag = f"--{server.lower()}"
        if (self.cert is None) != (self.key is None):
            raise WrongUsage(f"{flag}-cert and {flag}-key are given together or not at all")
        if self.cert is not None and self.ca is None:
            raise WrongUsage(f"{flag}-cert needs {flag}-ca, the authority of {server}")
        if self.key is not None:
            check_secret_file(self.key)
        try:
            self.context()
        except (OSError, ValueError) as error:
            files = ", ".join(str(path) for path in (self.ca, self.cert, self.key) if path is not None)
            raise ConfigError(f"cannot use the certificates for {server} ({files}): {error}") from None
