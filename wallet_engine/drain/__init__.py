"""From the streams of Redis to the disk of one journal copy: fetching, group commit, trimming.

Services bring the entries that they have made. The drain fetches from the streams the entries of a partition whose
brought entries do not continue its chain, and those that no service has brought.
"""
