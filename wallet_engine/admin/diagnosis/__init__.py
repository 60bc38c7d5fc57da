"""Finds what is wrong with a cluster, or soon will be: what `doctor` asks, decides and advises.

examination (asks everything once) -> findings, redis_findings, payments (decide) -> mends (the commands to type)
"""
