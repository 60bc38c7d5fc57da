"""The outcome of one transfer, and the transfers under way: from Redis and the journal, in words."""
