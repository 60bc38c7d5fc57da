"""The three doors, where load can be put on: HTTP, the engine in this process, and the script alone."""
