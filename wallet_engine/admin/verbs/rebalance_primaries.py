"""`wallet-admin rebalance --primaries`: switchovers until hosts have about equally many primaries."""

from rich.console import Console

from wallet_engine.admin.diagnosis.layout import host_of
from wallet_engine.admin.moving.primaries import Switch, even_out
from wallet_engine.admin.session import Plan, Session
from wallet_engine.admin.survey import Survey, survey
from wallet_engine.admin.verbs.switchover import fit_replicas, switch_over
from wallet_engine.domain.errors import ConfigError


def rebalance_primaries(session: Session) -> None:
    """One switchover after another; each shard must serve again before the next."""
    with session.directory() as directory:
        switches = switches_of(survey(directory))
        document = {"switchovers": [switch._asdict() for switch in switches]}

        def show(console: Console) -> None:
            for shard, old, new in switches:
                console.print(f"shard {shard}: primary {old} -> {new}", soft_wrap=True)
            if not switches:
                console.print("no switchover evens out how many primaries each host has")

        plan = Plan("even out the primaries of hosts", document, show)
        if switches:
            if not session.agreed(plan):
                return
            with session.change(directory, plan):
                for switch in switches:
                    switch_over(directory, switch.shard, switch.new)
    session.answer(document, show)


def switches_of(found: Survey) -> list[Switch]:
    """The switchovers to make. Raises `ConfigError` when a shard has no primary that answers."""
    primaries: dict[str, str] = {}
    for state in found.shards:
        if state.primary is None:
            raise ConfigError(
                f"shard {state.shard.name} has no primary that answers: see wallet-admin doctor"
            )
        primaries[state.shard.name] = state.primary.address
    replicas = {state.shard.name: [node.address for node in fit_replicas(state)] for state in found.shards}
    hosts = {node.address: host_of(node.address) for state in found.shards for node in state.nodes}
    return even_out(primaries, replicas, hosts)
