"""What a seed decides before anything runs: the size of the cluster, the traffic, the faults."""

import random
from dataclasses import dataclass, replace
from typing import Final

from wallet_engine.domain.limits import STREAM_ENTRIES_MAX

FAULTS: Final = (
    "service_killed",
    "journal_killed",
    "journal_killed_at_sync",
    "redis_empty",
    "redis_old_image",
    "redis_restarted",
    "redis_flushed",
    "redis_stalled",
    "failover",
    "connection_reset",
    "process_paused",
    "directory_away",
    "slow_network",
    "everything_killed",
    "redis_refuses",
    "network_split",
    "clocks_stepped",
)
#: So much that the stripe that pays a few such accounts exceeds the limit of one number; no account does.
HUGE_MINOR: Final = 3_000_000_000_000_000
#: Only in profiles that ask for it: moves add gossip, and an administrator.
MOVED: Final = "partition_moved"
#: Only in profiles that ask for them: the list of journal copies changes.
CHANGED_COPIES: Final = ("copy_replaced", "copy_added")
AROUND_CHANGES: Final = ("process_paused", "journal_killed", "redis_empty", "failover", "connection_reset")
#: Parts that may be out for long while everything else is well (`outages.py`).
OUTAGES: Final = ("shard_stopped", "shard_refuses", "journal_away")
#: An outage that only tests choose.
LOST: Final = "directory_lost"

#: `recovery_paused` is not one of `FAULTS`: with one journal copy nobody overtakes it.
OVERTAKING: Final = ("recovery_paused", "redis_empty", "failover", "redis_old_image")


@dataclass(frozen=True)
class Profile:
    """Drawn from a seed by `draw`; tests may make their own."""

    services: int = 2
    shards: int = 2
    partitions: int = 4
    journals: int = 1
    quorum: int = 1
    callers: int = 4
    payments_per_caller: int = 4
    #: The longest pause that a caller sometimes makes between two requests.
    pause_s: float = 0.05
    #: Kinds of fault that may strike, and how many do.
    kinds: tuple[str, ...] = FAULTS
    faults: int = 4
    #: Steps between two faults, on average.
    fault_gap_steps: int = 400
    #: Virtual seconds of rest before each further burst of traffic; windows rotate when the rests exceed a retention.
    rests_s: tuple[float, ...] = ()
    #: Which of `OUTAGES` follows the traffic, and how many payments come at once meanwhile.
    outage: str = ""
    crowd: int = 0
    #: The most entries of a partition that Redis keeps for the journal.
    stream_entries_max: int = STREAM_ENTRIES_MAX
    repeat_receipts: float = 0.05
    image_chance: float = 0.2
    reply_lost: float = 0.03
    #: Whether callers also ask for refunds.
    refunds: bool = False
    #: Whether callers also make groups.
    groups: bool = False
    #: Whether callers repeat groups at any time, also when some partitions have forgotten them and others have not.
    late_groups: bool = False
    #: Whether callers also place holds and capture them later.
    holds: bool = False
    #: Whether payers use ids that another payer has used before.
    shared_ids: bool = False
    #: Whether some accounts have maximum balances, and callers change the limits of accounts.
    limits: bool = False
    #: Whether callers also ask for refunds of the legs of groups.
    legs_refunded: bool = False
    #: What each account begins with; payments are up to five times as much.
    funds_minor: int = 1_000

    @staticmethod
    def draw_all(seed: int) -> "Profile":
        """The same with holds, groups and refunds in every history."""
        return replace(Profile.draw(seed), holds=True, groups=True, refunds=True)

    @staticmethod
    def draw_limits(seed: int) -> "Profile":
        """The same with limits that change, and refunds of legs."""
        return replace(Profile.draw_all(seed), limits=True, legs_refunded=True)

    @staticmethod
    def draw_late(seed: int) -> "Profile":
        """The same, so long that each partition forgets, at its own time, and groups are repeated after that."""
        rng = random.Random(f"late {seed}")
        return replace(
            Profile.draw_all(seed),
            **{
                "late_groups": True,
                "payments_per_caller": 3,
                "faults": rng.randint(0, 3),
                "funds_minor": 1_000,
            },
            rests_s=tuple(rng.uniform(8, 20) for _ in range(6)),
        )

    @staticmethod
    def draw_copies(seed: int) -> "Profile":
        """The same with two or three journal copies."""
        copies = random.Random(f"copies {seed}").choice(((2, 1), (2, 2), (3, 2), (3, 2), (3, 1)))
        return replace(Profile.draw(seed), journals=copies[0], quorum=copies[1])

    @staticmethod
    def draw_overtaken(seed: int) -> "Profile":
        """Three copies that recover one shard again and again, and are stopped in the middle of that."""
        return replace(
            Profile.draw(seed),
            **{"journals": 3, "quorum": 2, "shards": 1, "services": 3},
            **{"kinds": OVERTAKING, "faults": 12, "fault_gap_steps": 60, "rests_s": ()},
        )

    @staticmethod
    def draw_outage(seed: int, outage: str = "") -> "Profile":
        """A long outage, small streams, and nothing else that fails; `outage`: this one."""
        rng = random.Random(f"outage {seed}")
        drawn = rng.choice(OUTAGES)
        return Profile(
            callers=3,
            payments_per_caller=1,
            faults=0,
            outage=outage or drawn,
            journals=3 if (outage or drawn) == "journal_away" else 1,
            quorum=2 if (outage or drawn) == "journal_away" else 1,
            crowd=rng.randint(40, 100),
            stream_entries_max=rng.choice((24, 32, 48, 64)),
            reply_lost=0.0,
        )

    @staticmethod
    def draw_moves(seed: int) -> "Profile":
        """The same with partitions that move all the time, and primaries that fail over."""
        drawn, rng = Profile.draw(seed), random.Random(f"moves {seed}")
        few = tuple(rng.sample(drawn.kinds, min(2, len(drawn.kinds))))
        return replace(
            drawn,
            kinds=(MOVED,) * 4 + ("failover",) * rng.randint(0, 2) + few,
            faults=rng.randint(4, 14),
            fault_gap_steps=rng.choice((100, 200, 400)),
            payments_per_caller=rng.randint(4, 8),
            pause_s=rng.choice((0.1, 0.6, 1.2)),
        )

    @staticmethod
    def draw_changed_copies(seed: int) -> "Profile":
        """Journal copies that are lost and replaced, or added, while others are stopped and shards recover."""
        rng = random.Random(f"changed {seed}")
        drawn = Profile.draw_all(seed) if rng.random() < 0.3 else Profile.draw(seed)
        few = tuple(rng.sample(drawn.kinds, min(2, len(drawn.kinds))))
        return replace(
            drawn,
            **{"journals": rng.choice((2, 3, 3)), "quorum": 2, "rests_s": (), "image_chance": 0.2},
            kinds=(*CHANGED_COPIES, "copy_replaced", *AROUND_CHANGES, *few),
            faults=rng.randint(8, 20),
            fault_gap_steps=rng.choice((60, 120, 250)),
            payments_per_caller=rng.randint(3, 6),
            pause_s=rng.choice((0.1, 0.6)),
        )

    @staticmethod
    def draw_together(seed: int) -> "Profile":
        """Moves and failovers, several copies, recoveries that are overtaken, holds, groups, refunds, late repeats."""
        rng = random.Random(f"together {seed}")
        journals, quorum = rng.choice(((1, 1), (2, 2), (3, 2), (3, 2), (3, 1)))
        kinds = (MOVED,) * 4 + ("failover",) * rng.randint(0, 3) + tuple(rng.sample(FAULTS, 3))
        if journals == 3 and rng.random() < 0.5:
            kinds += ("recovery_paused",) * 2
        late = rng.random() < 0.4
        return replace(
            Profile.draw_all(seed),
            **{"journals": journals, "quorum": quorum, "funds_minor": 1_000, "late_groups": late},
            kinds=kinds,
            faults=rng.randint(4, 14),
            fault_gap_steps=rng.choice((100, 200, 400)),
            payments_per_caller=rng.randint(3, 6),
            pause_s=rng.choice((0.1, 0.6, 1.2)),
            rests_s=tuple(rng.uniform(6, 20) for _ in range(3)) if late else (),
        )

    @staticmethod
    def draw(seed: int) -> "Profile":
        rng = random.Random(f"profile {seed}")
        few = rng.sample(FAULTS, rng.randint(2, 5))
        forgetful = rng.random() < 0.12
        return Profile(
            payments_per_caller=rng.randint(1, 2) if forgetful else rng.randint(2, 3),
            kinds=FAULTS if rng.random() < 0.5 else tuple(few),
            faults=0 if rng.random() < 0.05 else rng.randint(1, 6),
            fault_gap_steps=rng.choice((30, 80, 200, 400)),
            rests_s=tuple(rng.uniform(8, 22) for _ in range(3)) if forgetful else (),
            repeat_receipts=rng.choice((0.0, 0.05, 0.3)),
            image_chance=rng.choice((0.05, 0.2, 0.5)),
            refunds=random.Random(f"refunds {seed}").random() < 0.3,
            groups=random.Random(f"groups {seed}").random() < 0.3,
            holds=random.Random(f"holds {seed}").random() < 0.3,
            shared_ids=random.Random(f"shared {seed}").random() < 0.2,
            funds_minor=HUGE_MINOR if random.Random(f"huge {seed}").random() < 0.1 else 1_000,
        )
