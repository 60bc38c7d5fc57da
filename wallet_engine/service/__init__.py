"""The wallet as its callers see it, without HTTP."""
