"""Webhooks, events that are posted by HTTP: endpoints, what is still to be sent, and the sending."""
