"""Other stores that keep the same books, measured beside the engine: one module each."""
