"""Transfers as sequences of durable steps, and the sweeper that ends what a crash left open."""
