"""Moves entries from Redis to the disk of one journal copy: fetching, group commit, trimming of the streams.

Services bring the entries that they have made. When brought entries do not continue a partition's chain, or no service
brought them, the drain fetches them from the partition's stream.
"""
