"""Describes one transfer, or the transfers under way, from Redis and the journal."""
