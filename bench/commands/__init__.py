"""The subcommands of `python -m bench`, each in its own module."""
