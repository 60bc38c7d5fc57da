"""Partitions as the service sees them: queues, batches, commits, and the journal's drain.

Joins `redis_store`, `journal` and `routing`, which do not know each other.
"""
