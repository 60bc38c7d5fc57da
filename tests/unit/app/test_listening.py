"""Where a process listens and what it registers: never an address at which others cannot reach it."""

import socket

import pytest

from wallet_engine.app import listening
from wallet_engine.app.listening import Listening
from wallet_engine.domain.addresses import join_address, split_address
from wallet_engine.domain.errors import ConfigError


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", "wallet.example:80", "[2001:db8::1:2]:443"])
def test_an_address_is_taken_apart_and_put_together(text: str) -> None:
    assert join_address(*split_address(text)) == text
    assert "[" not in split_address(text)[0]


@pytest.mark.parametrize(
    ("host", "advertise", "registered"),
    [
        ("127.0.0.1", None, "127.0.0.1:7800"),
        ("::1", None, "[::1]:7800"),
        ("[::1]", None, "[::1]:7800"),
        ("localhost", None, "localhost:7800"),
        ("0.0.0.0", "10.0.0.7", "10.0.0.7:7800"),
        ("0.0.0.0", "10.0.0.7:80", "10.0.0.7:80"),
        ("0.0.0.0", "journal.example", "journal.example:7800"),
        ("0.0.0.0", "journal.example:80", "journal.example:80"),
        ("::", "2001:db8::7", "[2001:db8::7]:7800"),
        ("::", "[2001:db8::7]", "[2001:db8::7]:7800"),
        ("::", "[2001:db8::7]:80", "[2001:db8::7]:80"),
    ],
)
def test_what_is_registered(host: str, advertise: str | None, registered: str) -> None:
    assert Listening.checked(host, 0, advertise).advertised(7800) == registered


def test_bound_to_every_address_it_registers_the_one_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        listening, "own_host", lambda every: {"0.0.0.0": "10.0.0.7", "::": "2001:db8::7"}[every]
    )
    assert Listening.checked("0.0.0.0", 0, None).advertised(80) == "10.0.0.7:80"
    assert Listening.checked("::", 0, None).advertised(80) == "[2001:db8::7]:80"
    monkeypatch.setattr(listening, "own_host", lambda every: None)
    with pytest.raises(ConfigError, match=r"--host 0\.0\.0\.0 is no address .*: give --advertise HOST"):
        Listening.checked("0.0.0.0", 0, None)


def test_the_address_of_this_machine_is_never_loopback() -> None:
    found = listening.own_host("0.0.0.0")
    assert found is None or not found.startswith("127.")


@pytest.mark.parametrize("every", ["0.0.0.0", "::"])
def test_a_machine_that_finds_only_itself_has_no_address_for_others(
    every: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        listening, "_ELSEWHERE", {4: (socket.AF_INET, "127.0.0.1"), 6: (socket.AF_INET6, "::1")}
    )
    assert listening.own_host(every) is None


@pytest.mark.parametrize(
    "advertise", ["0.0.0.0", "[::]:80", "::", "a b", "host:", "host:0", "host:99999", ""]
)
def test_what_cannot_be_reached_is_not_advertised(advertise: str) -> None:
    with pytest.raises(ConfigError, match="--advertise"):
        Listening.checked("127.0.0.1", 0, advertise)


def test_what_cannot_be_listened_on_is_one_line() -> None:
    with pytest.raises(ConfigError, match="--port is 0 to 65535"):
        Listening.checked("::1", 65536, None)
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on \[::1\]:{port}: Address already in use"):
            Listening.checked("::1", port, None)
