"""The verbs: one module each, which reads flags and prints. `admin/cli.py` lists them."""
