"""An unknown host name is reported at once, and not as a server that does not answer."""

import socket
from typing import Any

import pytest

from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing import host_names
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.host_names import check_names_known, unknown_names

NOBODY = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
LATER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """Name -> the error of its look-up. Other names are known."""
    trouble: dict[str, Exception] = {}
    ask = socket.getaddrinfo

    def getaddrinfo(name: str, *rest: Any, **more: Any) -> list[Any]:
        if name in trouble:
            raise trouble[name]
        return ask("127.0.0.1" if name.startswith("zk") else name, *rest, **more)

    monkeypatch.setattr(host_names.socket, "getaddrinfo", getaddrinfo)
    return trouble


def test_a_name_that_nobody_has_is_told_from_a_silent_host(resolver: dict[str, Exception]) -> None:
    resolver |= {"zk9": NOBODY, "zk8": LATER}
    assert unknown_names(["zk1", "zk9", "zk8"]) == ["zk9"]
    with pytest.raises(ConfigError, match="no host has the name zk9"):
        check_names_known("zk9:2181/root")
    check_names_known("zk9:2181,zk1:2181")  # one known name is enough
    check_names_known("zk8:2181")
    check_names_known("[::1]:2181")
    check_names_known("[::1]")  # the port may be left out
    check_names_known("zk9:2181, zk1:2181")


def test_whoever_opens_the_directory_is_told_at_once(resolver: dict[str, Exception]) -> None:
    resolver["zk9"] = NOBODY
    with pytest.raises(ConfigError, match="no host has the name zk9: see --zookeeper"):
        open_directory("zk9:2181", None)
