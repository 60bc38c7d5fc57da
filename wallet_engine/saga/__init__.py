"""Transfers as sequences of durable steps, and the sweepers that end what a crash left open."""
