"""Moves partitions between shards while payments go on.

    planning -> driver -> copying -> sides -> wire
    leftovers -> driver

The driver's order of steps is the safety argument; see its module.
"""
