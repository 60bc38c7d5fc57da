"""Proof by replay: compares Redis with the journal, now and at any past moment.

image (Redis) + fold (the journal) -> comparison; domain/transit, refunds (between partitions) -> cluster
"""
