"""Redis nodes with TLS and users that survive a restart, and password files for their clients."""

from pathlib import Path

from support.certificates import Authority, Pair

from wallet_engine.dev.binaries import system_redis
from wallet_engine.dev.config_files import config_path
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.process import Child
from wallet_engine.dev.redis_node import START_S_MAX, RedisEndpoint


class SecuredNode(Child, RedisEndpoint):
    """In cluster mode on a TLS port, and also on a plain port if `plain`. Commands use the login of this process."""

    def __init__(
        self,
        folder: Path,
        name: str,
        authority: Authority,
        pair: Pair,
        *,
        plain: bool = False,
        config: str = "",
    ) -> None:
        """`config`: further lines of its redis.conf."""
        directory = folder / name
        directory.mkdir()
        (directory / "users.acl").touch()
        self.plain_port = free_port(redis=True) if plain else 0
        port = free_port(redis=True)
        lines = f"""
            include {config_path("redis.conf")}
            bind 127.0.0.1
            port {self.plain_port}
            tls-port {port}
            tls-cluster yes
            tls-replication yes
            tls-cert-file {pair.cert}
            tls-key-file {pair.key}
            tls-ca-cert-file {authority.cert}
            dir {directory}
            {config or "aclfile users.acl"}
        """
        (directory / "redis.conf").write_text(lines)
        argv = [str(system_redis().path), str(directory / "redis.conf")]
        Child.__init__(self, name, argv, directory / "redis.log", folder=directory)
        RedisEndpoint.__init__(self, name, "127.0.0.1", port)

    def start_and_wait(self) -> None:
        self.start()
        self.wait_ready(self.answers, START_S_MAX)


def password_file(folder: Path, name: str, password: str) -> Path:
    path = folder / f"{name}.password"
    path.write_text(f"{password}\n")
    path.chmod(0o600)
    return path
