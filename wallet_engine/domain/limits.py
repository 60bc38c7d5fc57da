"""Every bound of the engine that is not configuration, in one place.

Names end in the unit and `_max` / `_min`, so that a reader sees what a number means where it is used.
"""

from typing import Final

#: Largest magnitude of any amount or balance: the largest integer an IEEE double holds exactly (2^53 - 1).
#: Lua 5.1 inside Redis computes with doubles, so this is a limit of correctness, not of taste.
AMOUNT_MINOR_MAX: Final = 2**53 - 1

#: A system account has no limit: beyond one number, its part in a partition is so many of these and the rest.
STRIPE_LIMB_MINOR: Final = AMOUNT_MINOR_MAX + 1

ACCOUNT_ID_LENGTH_MAX: Final = 64

#: Transfers in one `POST /v1/transfers/batch`.
BATCH_CALL_TRANSFERS_MAX: Final = 10_000
BODY_BYTES_MAX: Final = 4 * 1024 * 1024

#: Operations in one script call; keeps a call under about 5 ms of Redis time.
SCRIPT_OPERATIONS_MAX: Final = 400

#: Balances that operations read in one script call beside those of their own currency (`Kind.everywhere`), for the same
#: reason: each operation reads one in every currency of the partition.
SCRIPT_FIELDS_MAX: Final = 4_000

#: Operations in one script call, times the currencies of the partition, where accounts have flags, for the same reason:
#: an account's may name an overdraft limit in each, and those of both sides are read. `lua/apply.lua` refuses more.
SCRIPT_FLAGS_MAX: Final = 20_000

#: Transfers a service has accepted and not yet answered.
IN_FLIGHT_TRANSFERS_MAX: Final = 100_000

#: Entries of one partition's stream that are not trimmed, open ones apart, past which it takes no new work: the journal
#: is too far behind. The default of `stream_entries_max` in the configuration, and its bounds; `lua/apply.lua` looks
#: at the length every 16 entries.
STREAM_ENTRIES_MAX: Final = 100_000
STREAM_ENTRIES_MAX_LEAST: Final = 256
STREAM_ENTRIES_MAX_MOST: Final = 10_000_000

#: How old an operation may be when Redis executes it. Older ones were held by a stopped process.
ISSUED_AGE_MS_MAX: Final = 5 * 60 * 1000

#: How long the memory of a transaction id lasts at least (two windows are consulted).
RETENTION_MS_MIN: Final = 24 * 3600 * 1000

#: Keys of all callers, and what they take together: one node of ZooKeeper, which holds a mebibyte.
API_KEYS_MAX: Final = 1_000
API_KEYS_BYTES_MAX: Final = 900_000

PARTITIONS_MAX: Final = 4096
SLOTS: Final = 16384
