"""The vocabulary of the ledger: money, identifiers, operations, outcomes, entries and the oracle.

Nothing here does I/O or knows Redis, HTTP or the disk.
"""
