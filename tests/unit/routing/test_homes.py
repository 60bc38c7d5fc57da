"""The partitions of payers and receivers: single and many commands agree; a system account is at the other side."""

import pytest

from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.routing.homes import Homes
from wallet_engine.routing.slots import partition_of

IDS = [f"{number:022d}" for number in range(40)]


@pytest.mark.parametrize("partitions", [1, 2, 64, 4096])
def test_one_and_many_agree(partitions: int) -> None:
    homes = Homes(partitions)
    sides = ["alice", "bob", "@bank", "@fees", "x@y"]
    commands = [
        TransferCommand(payer, receiver, 1, "USD", transaction)
        for payer in sides
        for receiver in sides
        for transaction in IDS
    ]
    payers, receivers = homes.of_sides(commands)
    for command, p, q in zip(commands, payers, receivers, strict=True):
        assert p == homes.of_payer(command.from_account, command.transaction)
        assert q == homes.of_receiver(command.to_account, p)


def test_a_system_account_pays_where_the_id_is_and_is_paid_where_the_payer_is() -> None:
    homes = Homes(64)
    for transaction in IDS:
        p = homes.of_payer("@bank", transaction)
        assert p == partition_of(transaction, 64)
        assert homes.of_receiver("@fees", p) == p
        assert homes.of_payer("alice", transaction) == homes.of("alice") == partition_of("alice", 64)
        assert homes.of_receiver("alice", p) == homes.of("alice")
    assert len({homes.of_payer("@bank", transaction) for transaction in IDS}) > 10
