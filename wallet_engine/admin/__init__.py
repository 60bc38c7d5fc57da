"""`wallet-admin`: what an operator asks of a cluster, and does to it, from a command line.

    cli        the list of verbs
    verbs/     one module a verb: reads flags, prints, decides nothing
    diagnosis/ what is wrong with a cluster, and which commands mend it (`doctor`)
    proof/     does Redis hold what the journal says, and what did it hold in the past (`verify`, `balance`, `replay`)
    tracing/   one transfer from beginning to end, and what is under way (`transfer`, `pending`)
    moving/    moving partitions between shards while payments go on (`move`, `drain`, `add-shard`)

Beside them stands what they share:

    session    flags that every verb takes, how a verb answers (tables or one JSON document), how a change is agreed to
    survey     the whole cluster, asked once; `contents`: how much is in it; `nodes`: one Redis node
    journals   which journal directory to read, and what a journal process says is durable
    settings   what may be changed of the configuration, and when it is safe to
    audit_log  who changed what; `tree_file`: the tree of ZooKeeper in a file

What decides prints nothing.
"""
