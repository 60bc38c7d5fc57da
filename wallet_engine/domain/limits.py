"""Every bound of the engine that is not configuration, in one place.

Names end in the unit and `_max` / `_min`, so that a reader sees what a number means where it is used.
"""

from typing import Final

#: Largest magnitude of any amount or balance: the largest integer an IEEE double holds exactly (2^53 - 1).
#: Lua 5.1 inside Redis computes with doubles, so this is a limit of correctness, not of taste.
AMOUNT_MINOR_MAX: Final = 2**53 - 1

#: A system account has no limit. When its balance in a partition exceeds one number, it is kept as a multiple
#: of this and a rest.
STRIPE_LIMB_MINOR: Final = AMOUNT_MINOR_MAX + 1

ACCOUNT_ID_LENGTH_MAX: Final = 64

#: Transfers in one `POST /v1/transfers/batch`.
BATCH_CALL_TRANSFERS_MAX: Final = 10_000
BODY_BYTES_MAX: Final = 4 * 1024 * 1024

#: Operations in one script call; keeps a call under about 5 ms of Redis time.
SCRIPT_OPERATIONS_MAX: Final = 400

#: Balances that operations read in one script call besides those of their own currency (`Kind.everywhere`),
#: for the same reason: each such operation reads one balance in every currency of the partition.
SCRIPT_FIELDS_MAX: Final = 4_000

#: Operations in one script call times the currencies of the partition, if its accounts have flags, for the
#: same reason: flags may name an overdraft limit in each currency, and the script reads those of both sides.
#: It refuses more.
SCRIPT_FLAGS_MAX: Final = 20_000

#: Transfers a service has accepted and not yet answered.
IN_FLIGHT_TRANSFERS_MAX: Final = 100_000

#: Beyond this many untrimmed entries in its stream, open ones not counted, a partition takes no new work: the
#: journal is too far behind. These are the default of `stream_entries_max` in the configuration, and its
#: bounds. `lua/apply.lua` checks the length every 16 entries.
STREAM_ENTRIES_MAX: Final = 100_000
STREAM_ENTRIES_MAX_LEAST: Final = 256
STREAM_ENTRIES_MAX_MOST: Final = 10_000_000

#: Maximum age of an operation when Redis executes it. An older one comes from a process that was stopped
#: meanwhile.
ISSUED_AGE_MS_MAX: Final = 5 * 60 * 1000

#: Minimum time that a transaction id is remembered (the script consults two dedupe windows).
RETENTION_MS_MIN: Final = 24 * 3600 * 1000

#: Number and total size of the API keys of all callers: they share one ZooKeeper node, which holds at most 1
#: MiB.
API_KEYS_MAX: Final = 1_000
API_KEYS_BYTES_MAX: Final = 900_000

PARTITIONS_MAX: Final = 4096
SLOTS: Final = 16384
