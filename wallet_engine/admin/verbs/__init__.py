"""The verbs. Each module reads the flags of its verb and prints the answer. `admin/cli.py` lists them."""
