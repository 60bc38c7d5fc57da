"""The three places where load can be put on: HTTP, the engine in this process, the script alone."""
