"""Where everything is: which partition an account belongs to, which shard serves it, and who is alive.

`slots` computes, `model` names the facts, `tree` is the small coordination store they live in (`zookeeper`,
or `file_tree` for the embedded mode), `directory` is the typed view that the rest of the engine uses.

Invariant: nothing here talks to Redis or to the journal.
"""
