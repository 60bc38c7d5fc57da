"""`wallet-admin`: shows and changes a cluster from the command line.

    cli        the list of verbs
    verbs/     one module per verb: reads flags and prints; decides nothing
    diagnosis/ finds what is wrong with a cluster and names the commands that mend it (`doctor`)
    proof/     compares Redis with the journal, and computes past states (`verify`, `balance`, `replay`)
    tracing/   follows one transfer from start to end, and lists open ones (`transfer`, `pending`)
    moving/    moves partitions between shards while payments go on (`move`, `drain`, `add-shard`)

Shared modules:

    session    the flags of every verb, its output (tables or one JSON document), the question before a change
    survey     asks the whole cluster once; `contents`: how much data it has; `nodes`: one Redis node
    journals   chooses the journal directory to read; asks a journal process which entries are durable
    settings   which settings may be changed, and when that is safe
    audit_log  who changed what; `tree_file`: the ZooKeeper tree in a file

Modules that decide do not print.
"""
