"""Other ways to keep the same books, measured beside the engine: one module each."""
