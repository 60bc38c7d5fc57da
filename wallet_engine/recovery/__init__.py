"""Brings Redis to the journal's state before it serves, and keeps each shard drained afterwards.

Runs inside the journal process, because the journal is the source of truth. Services only ask for it.
"""
