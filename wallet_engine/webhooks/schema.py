"""The tables of events and webhooks, beside those of the history."""

from typing import Final

#: Rows are numbered in the order of their commits: `event_numbers` is locked from its update to the commit.
SCHEMA: Final = """
CREATE TABLE event_log (
    number bigint PRIMARY KEY,
    partition integer NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    types text[] NOT NULL,
    accounts text[] NOT NULL,
    events bytea NOT NULL
);
CREATE UNIQUE INDEX event_log_entry ON event_log (partition, seq);
CREATE INDEX event_log_at ON event_log (at);

CREATE TABLE event_numbers (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    last bigint NOT NULL
);
INSERT INTO event_numbers (last) VALUES (0);

CREATE TABLE webhooks (
    webhook_id text PRIMARY KEY,
    url text NOT NULL,
    types text[] NOT NULL,
    accounts text[] NOT NULL,
    description text NOT NULL,
    status text NOT NULL DEFAULT 'enabled',
    reason text NOT NULL DEFAULT '',
    secret text NOT NULL,
    previous_secret text NOT NULL DEFAULT '',
    previous_until timestamptz NOT NULL DEFAULT 'epoch',
    created_at timestamptz NOT NULL DEFAULT now(),
    position bigint NOT NULL,
    version bigint NOT NULL DEFAULT 0,
    poked bigint NOT NULL DEFAULT 0,
    worker text NOT NULL DEFAULT '',
    leased_until timestamptz NOT NULL DEFAULT 'epoch'
);

CREATE TABLE webhook_deliveries (
    delivery_id bigserial PRIMARY KEY,
    webhook_id text NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    number bigint,
    event_id text NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    body bytea NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT 'epoch',
    created_at timestamptz NOT NULL DEFAULT now(),
    tried_at timestamptz,
    answer integer,
    error text NOT NULL DEFAULT ''
);
CREATE INDEX webhook_deliveries_listed ON webhook_deliveries (webhook_id, status, delivery_id);
CREATE INDEX webhook_deliveries_replayed ON webhook_deliveries (webhook_id, number);
"""
