"""The API key that `wallet-admin` sends: no error shows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.admin.made import admin, make_map, refusal

from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import ServiceInfo

SECRET = "5ec7e75ec7e7"
KEY = f"wk_aaaaaaaa_{SECRET}"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    opened = make_map(tmp_path / "map.json", 2)
    opened.register_service(ServiceInfo("api-1", "127.0.0.1:1", 1))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "key", [f"{KEY}\n", f" {KEY}\r\n", f"{KEY}\nx", f"wk_aaaaaaaa_{SECRET} x", f"\ufeff{KEY}"]
)
@pytest.mark.parametrize("in_file", [False, True])
def test_g13_a_key_with_signs_that_no_header_has_is_not_shown(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, in_file: bool
) -> None:
    """G13: Python's error for such a header has the header in it. Variables of files end with a newline."""
    flags = ["--map-file", str(tmp_path / "map.json"), "--yes"]
    if in_file:
        (tmp_path / "key").write_text(key, "utf-8")
        (tmp_path / "key").chmod(0o600)
        flags += ["--key-file", str(tmp_path / "key")]
    else:
        monkeypatch.setenv("WALLET_KEY", key)
    plain = key.strip().partition("\n")[0] == KEY and (in_file or key.strip() == KEY)
    said = refusal(admin("freeze", "alice", *flags), 1 if plain else 2)
    assert SECRET not in said
    assert ("127.0.0.1:1: [Errno 111]" if plain else "has no API key, wk_…") in said
