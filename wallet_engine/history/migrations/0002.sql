-- Events, numbered in the order of their commits, and the endpoints that they are sent to.

-- One row for each entry that has events. The row of event_numbers is locked from its update to the commit, so nothing
-- with a smaller number can become visible later.
CREATE TABLE event_log (
    number bigint PRIMARY KEY,
    partition integer NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    types text[] NOT NULL,
    accounts text[] NOT NULL,
    events bytea NOT NULL
);
-- (x)
CREATE UNIQUE INDEX event_log_entry ON event_log (partition, seq);
CREATE INDEX event_log_at ON event_log (at);

CREATE TABLE event_numbers (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    last bigint NOT NULL
);
INSERT INTO event_numbers (last) VALUES (0);

-- What balances were behind an entry: where a fold of the partition can be taken up (wallet_engine/events/saved.py).
CREATE TABLE event_folds (
    partition integer PRIMARY KEY,
    seq bigint NOT NULL,
    nonce text NOT NULL,
    book bytea NOT NULL
);

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
