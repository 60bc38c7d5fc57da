"""The deciding oracle: a follower of the journal that decides every entry again, and stops a partition that differs.

decider (what is right, without I/O) + checkpoints (a directory) + stopping (Redis) -> sink
"""
