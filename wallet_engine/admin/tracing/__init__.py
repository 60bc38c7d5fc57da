"""What became of one transfer, and what is under way: from Redis and the journal, in words."""
