"""What has happened as CloudEvents, made of the journal's entries. Decides nothing, reads nothing."""
