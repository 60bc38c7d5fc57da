"""Following the journal: entries out of the feed into sinks, off the payment path."""
