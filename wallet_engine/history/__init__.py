"""The queryable past: facts made of journal entries, and the PostgreSQL that keeps them."""
