"""Partitions as the service sees them: queues, batches, commits and reads.

Joins `redis_store`, `journal` and `routing`, which do not import each other.
"""
