"""Brings Redis to the journal's state before it serves, and keeps each shard drained afterwards.

Runs inside the journal process, where the truth is. Services only ask for it.
"""
