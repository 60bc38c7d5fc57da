"""`wallet-admin`: what an operator asks of a cluster, and does to it, from a command line.

cli           the list of verbs; each verb is one module that reads flags and prints
session       flags that every verb takes, how a verb answers (tables or one JSON document), how a change is agreed to
waiting       until the result of a change is seen
nodes         one Redis node, seen by a client that trusts nothing it did not ask
journals      which journal directory to read, and what a journal process says is durable

init          verb   placement     decides whether the slots lie as the partitions need them
status        verb   survey        asks everything once
partitions    verb   contents      how much is in each partition
shards        verb   contents      how busy each node is
doctor        verb   examination   asks everything once; `findings` decides what is wrong, and what mends it
                     mends         the commands that may be advised, all of them
                     strays        keys where none should be
verify        verb   verification  joins image, fold and comparison
                     image         what Redis holds, read in parts that each are true at one sequence number
                     fold          what the journal says, one pass over all partitions
                     comparison    the two against each other
balance       verb   history       a balance at a past sequence number or instant
account       verb                 one account, from Redis and the journal
transfer      verb   tracing       one transfer, from Redis and the journal
pending       verb   open_entries  open transfers and what they wait for
freeze        verbs  service_calls asks an API process, as payment services do
journal       verbs  journal_info, journal_cat; `telling` puts operations into words
protect       verb   (routing.access) who may change the tree in ZooKeeper
key           verbs  (routing.api_keys) who may call the API
config        verbs  settings      what may be changed, and when it is safe to
backup        verb   backups       the tree in a file; `restore` puts it back under new epochs
snapshot      verb   (recovery.snapshotting) from the journal alone
replay        verb   replaying     a whole past state, into files or an empty Redis
rebuild       verb                 distrusts a partition, and waits until recovery has made it anew
audit         verb   auditing      who changed what, when and from where

A verb prints and decides nothing; the modules beside it decide and print nothing.
"""
