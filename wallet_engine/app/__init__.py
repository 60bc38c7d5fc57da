"""The three long-running processes: the API (`serve`), a journal copy (`journal`), and followers (`follow`)."""
