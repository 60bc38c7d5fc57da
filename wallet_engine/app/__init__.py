"""The two long-running processes: the API (`serve`) and the journal (`journal`)."""
