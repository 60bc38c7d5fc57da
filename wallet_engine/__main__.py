"""`python -m wallet_engine` is `wallet-engine`."""

from wallet_engine.cli import main

main(prog_name="wallet-engine")
