"""`wallet-engine dev`: a whole cluster on one machine, as child processes of one supervisor."""
