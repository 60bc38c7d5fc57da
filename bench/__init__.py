"""The benchmark: puts load on a real cluster at one of three doors. It reports nothing when the books do not add up."""
