"""`wallet-engine dev`: the whole cluster as child processes of one supervisor on one machine."""
