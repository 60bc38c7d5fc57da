"""API processes with HTTPS or keys, which `wallet-engine dev` alone does not start. Those of the cluster stay idle.

They run with `--insecure`, so callers may send a key or none: the same process is measured with and without.
"""

import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.error import HTTPError

from bench.scrape import get
from bench.workload import ACCOUNTS, account_name
from wallet_engine.dev.ports import free_port
from wallet_engine.domain.principals import PeerRole, Principal
from wallet_engine.routing.api_keys import ApiKey, Role, new_key
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.authority import Authority, Pair

READY_S_MAX: Final = 60.0
STOP_S_MAX: Final = 20.0
KEY_S_MAX: Final = 10.0
_DAYS: Final = 2


class ApisFailed(Exception):
    """An API process did not become ready."""


def peer_files(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """(certificate of the authority, certificate, key) for a service. `folder`: the one of `dev --certificates`."""
    authority = Authority(folder)
    pair = authority.issue(Principal(PeerRole.SERVICE, name), days=_DAYS)
    return authority.pair.cert, pair.cert, pair.key


def server_pair(folder: Path) -> Pair:
    """A certificate for HTTPS on this machine, from a new authority in the folder."""
    authority = Authority.create(folder, "bench")
    return authority.issue(Principal(PeerRole.SERVER, "bench"), hosts=("127.0.0.1",), days=_DAYS)


def make_key(directory: Directory, apis: "OwnApis") -> str:
    """Make a key that may pay only from the benchmark's accounts. Returns when all of `apis` know it.

    Raises `ApisFailed`.
    """
    template = ApiKey(id="", name="bench", role=Role.PAYER, accounts=(ACCOUNTS,))
    made, shown = new_key(template)
    directory.api_keys.change(lambda keys: keys.update({made.id: made}))
    _, wrong = new_key(template)
    path, deadline = f"/v1/accounts/{account_name(0)}", time.monotonic() + KEY_S_MAX
    for address in apis.addresses:
        while (apis.status(address, path, shown), apis.status(address, path, wrong)) != (404, 401):
            if time.monotonic() > deadline:
                raise ApisFailed(f"{address} does not tell a key from a wrong one")
            time.sleep(0.05)
    return shown


class OwnApis:
    """The processes: `start` starts them, `stop` ends them. Their logs are in `root`."""

    def __init__(
        self, root: Path, https: Pair | None, peers: Path | None, caller_tls: ssl.SSLContext | None
    ) -> None:
        """`https`: certificate and key of the API. `peers`: folder of the authority for TLS to the journal.

        `caller_tls`: for the benchmark's own calls to the API. None switches each off.
        """
        self._root = root
        self._caller_tls = caller_tls
        self._https = https
        self._peers = peers
        self._processes: list[subprocess.Popen[bytes]] = []
        self.addresses: list[str] = []

    def __repr__(self) -> str:
        return f"<OwnApis {self.addresses}>"

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def start(self, count: int, directory_flags: tuple[str, ...], environ: Mapping[str, str]) -> None:
        """Start the processes. Returns when all take transfers. Raises `ApisFailed`."""
        for _ in range(count):
            port = free_port()
            name = f"bench-{port}"
            argv = [*(sys.executable, "-m", "wallet_engine", "serve"), *directory_flags, "--insecure"]
            argv += ["--service-id", name, "--port", str(port)]
            if self._https is not None:
                argv += ["--tls-cert", str(self._https.cert), "--tls-key", str(self._https.key)]
            if self._peers is not None:
                ca, cert, key = map(str, peer_files(self._peers, name))
                argv += ["--peer-ca", ca, "--peer-cert", cert, "--peer-key", key]
            with (self._root / f"{name}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen(
                        argv,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=dict(environ),
                        start_new_session=True,
                    )
                )
            self.addresses.append(f"127.0.0.1:{port}")
        deadline = time.monotonic() + READY_S_MAX
        for process, address in zip(self._processes, self.addresses, strict=True):
            while self.status(address, "/readyz") != 200:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise ApisFailed(f"an API process of the benchmark is not ready: see {self._root}")
                time.sleep(0.1)

    def status(self, address: str, path: str, key: str | None = None) -> int | None:
        """The status of a `GET` with this key; None without an answer."""
        try:
            get(address, path, tls=self._caller_tls, key=key)
        except HTTPError as refused:
            return refused.code
        except OSError:
            return None
        return 200

    def stop(self) -> None:
        """End the processes, and wait for them."""
        processes, self._processes = self._processes, []
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
