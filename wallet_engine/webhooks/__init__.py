"""Webhooks, events posted by HTTP: endpoints, pending deliveries, and sending."""
