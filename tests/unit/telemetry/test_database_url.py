"""`--database` with the password of `--database-password-file`."""

from pathlib import Path

import pytest

from wallet_engine.domain.errors import ConfigError
from wallet_engine.telemetry.flags import database_url

QUOTED = "p%40ss%2Fword%3A%C3%A9"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("p@ss/word:é\n", "utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("user", "hosts"),
    [
        ("wallet", "db.example:5433"),
        ("wallet", "db.example"),
        ("wallet", "[::1]:5433"),
        ("wallet%40bank", "db.example:5433"),
        ("wallet", "a.example:5433,b.example:5434"),
        ("", "db.example"),
    ],
)
def test_only_the_password_is_added(user: str, hosts: str, password_file: Path) -> None:
    rest = "/books?sslmode=require"
    given = f"postgresql://{user}@{hosts}{rest}"
    assert database_url(given, password_file) == f"postgresql://{user}:{QUOTED}@{hosts}{rest}"
    assert database_url(given, None) == given


@pytest.mark.parametrize(
    "hosts", ["db.example:port", "db.example:-1", "db.example:5432x", "db.example:543210", "[::1", "::1"]
)
@pytest.mark.parametrize("with_file", [True, False])
def test_an_invalid_host_is_an_error_in_one_line(hosts: str, with_file: bool, password_file: Path) -> None:
    with pytest.raises(ConfigError, match="--database"):
        database_url(f"postgresql://wallet@{hosts}/books", password_file if with_file else None)


def test_an_error_does_not_show_the_password() -> None:
    """An unquoted slash ends the part of the URL with the host. Then a part of the password is read as the port."""
    with pytest.raises(ConfigError, match="no valid HOST:PORT") as raised:
        database_url("postgresql://wallet:secret/word@db.example/books", None)
    assert "secret" not in str(raised.value)
