"""Secret files are read only when no other user can read them."""

import os
from pathlib import Path

import pytest

from wallet_engine.domain.errors import ConfigError
from wallet_engine.telemetry import secrets
from wallet_engine.telemetry.secrets import read_secret


def secret(tmp_path: Path, mode: int, text: str = "hush\nmore\n") -> Path:
    path = tmp_path / "secret"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_the_first_line_of_a_file_of_its_owner(tmp_path: Path, mode: int) -> None:
    assert read_secret(secret(tmp_path, mode), "password") == "hush"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666, 0o640, 0o620, 0o601])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret(tmp_path, mode)
    with pytest.raises(ConfigError, match=f"others can read {path}, .*: chmod 600 {path}"):
        read_secret(path, "password")


def test_a_group_may_read_what_root_owns_for_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = secret(tmp_path, 0o640)
    if path.stat().st_uid != 0:
        pytest.skip("the file is not root's")
    monkeypatch.setattr(secrets.os, "geteuid", lambda: 1000)
    assert read_secret(path, "password") == "hush"
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read"):
        read_secret(path, "password")


def test_what_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is empty, and should be the password"):
        read_secret(secret(tmp_path, 0o600, "\nhush\n"), "password")
    with pytest.raises(ConfigError, match="cannot read the password"):
        read_secret(tmp_path / "none", "password")


def test_what_is_written_is_for_its_owner(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        secrets.write_for_owner_only()
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
