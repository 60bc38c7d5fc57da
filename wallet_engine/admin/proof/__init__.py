"""Proof by replay: what Redis holds against what the journal says, now and at any moment of the past.

image (Redis) + fold (the journal) -> comparison; domain/transit, refunds (between partitions) -> cluster
"""
