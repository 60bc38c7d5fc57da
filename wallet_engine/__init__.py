"""An in-memory, sharded wallet engine: Redis Cluster holds the present, the journal holds the truth."""
