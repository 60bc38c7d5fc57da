"""From the streams of Redis to the disk of one journal copy: fetching, group commit, trimming.

Services bring the entries that they have made. What does not continue a partition's chain, and what nobody has brought,
is fetched from the streams.
"""
