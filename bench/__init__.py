"""The benchmark: loads a real cluster at one of three doors, and reports nothing when its books do not add up."""
