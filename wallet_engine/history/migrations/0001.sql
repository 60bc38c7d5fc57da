-- Amounts are minor units of the currency, times those of the journal's entries.
-- (partition, seq, idx) is an operation: the idx-th of entry seq of a partition of the journal; sub counts the accounts
-- that it touched, leg the legs of a group.

CREATE TABLE positions (
    sink      text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    seq       bigint NOT NULL,
    nonce     text COLLATE "C" NOT NULL,
    -- All that was durable in the partition at this time is here.
    at        timestamptz NOT NULL,
    PRIMARY KEY (sink, partition)
) WITH (fillfactor = 50);

CREATE TABLE accounts (
    account         text COLLATE "C" NOT NULL,
    currency        text COLLATE "C" NOT NULL,
    partition       integer NOT NULL,
    opened_at       timestamptz NOT NULL,
    status          text COLLATE "C" NOT NULL DEFAULT 'active',
    changed_at      timestamptz NOT NULL,
    overdraft_limit bigint NOT NULL DEFAULT 0,
    max_balance     bigint,
    metadata        jsonb,
    PRIMARY KEY (account, currency)
);

-- One row for each account that an operation touched. What is no transaction (an account opened, money set aside,
-- given back) has a type that the API does not list.
CREATE TABLE postings (
    at               timestamptz NOT NULL,
    seq              bigint NOT NULL,
    delta            bigint NOT NULL,
    -- Of the transaction, also where it was declined and delta is 0.
    amount           bigint NOT NULL,
    balance          bigint NOT NULL,
    held             bigint NOT NULL,
    pending          bigint NOT NULL,
    available        bigint GENERATED ALWAYS AS (balance - held) STORED,
    -- The operation with which the transfer began: the key of its row in transfers.
    origin_seq       bigint NOT NULL,
    origin_partition integer NOT NULL,
    partition        integer NOT NULL,
    idx              smallint NOT NULL,
    sub              smallint NOT NULL,
    origin_idx       smallint NOT NULL,
    leg              smallint NOT NULL,
    -- Absent, with a type of '', while the first entry of a transfer that arrived is not here yet.
    transaction_id   uuid,
    account          text COLLATE "C" NOT NULL,
    currency         text COLLATE "C" NOT NULL,
    type             text COLLATE "C" NOT NULL,
    status           text COLLATE "C" NOT NULL,
    code             text COLLATE "C",
    counterparty     text COLLATE "C",
    reference        text,
    metadata         jsonb,
    key_id           text COLLATE "C",
    PRIMARY KEY (account, at, partition, seq, idx, sub)
) PARTITION BY RANGE (at);

-- One row for each transfer, capture, refund and leg of a group, whatever became of it.
CREATE TABLE transfers (
    at             timestamptz NOT NULL,
    ended_at       timestamptz,
    seq            bigint NOT NULL,
    amount         bigint NOT NULL,
    partition      integer NOT NULL,
    idx            smallint NOT NULL,
    leg            smallint NOT NULL,
    transaction_id uuid NOT NULL,
    type           text COLLATE "C" NOT NULL,
    status         text COLLATE "C" NOT NULL,
    code           text COLLATE "C",
    payer          text COLLATE "C" NOT NULL,
    receiver       text COLLATE "C" NOT NULL,
    currency       text COLLATE "C" NOT NULL,
    reference      text,
    metadata       jsonb,
    key_id         text COLLATE "C",
    -- Of a capture; and of a refund, which transfer it gives back.
    hold_id        uuid,
    refunds_payer  text COLLATE "C",
    refunds_id     uuid,
    PRIMARY KEY (partition, seq, idx, leg, at)
) PARTITION BY RANGE (at);
CREATE INDEX transfers_by_id ON transfers (transaction_id);
CREATE INDEX transfers_by_reference ON transfers (reference, at) WHERE reference IS NOT NULL;

CREATE TABLE groups (
    at             timestamptz NOT NULL,
    seq            bigint NOT NULL,
    partition      integer NOT NULL,
    idx            smallint NOT NULL,
    legs           smallint NOT NULL,
    transaction_id uuid NOT NULL,
    payer          text COLLATE "C" NOT NULL,
    status         text COLLATE "C" NOT NULL,
    code           text COLLATE "C",
    reference      text,
    metadata       jsonb,
    key_id         text COLLATE "C",
    PRIMARY KEY (partition, seq, idx, at)
) PARTITION BY RANGE (at);

CREATE TABLE holds (
    account    text COLLATE "C" NOT NULL,
    hold_id    uuid NOT NULL,
    placed_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    partition  integer NOT NULL,
    currency   text COLLATE "C" NOT NULL,
    to_account text COLLATE "C" NOT NULL,
    amount     bigint NOT NULL,
    captured   bigint NOT NULL,
    released   bigint NOT NULL,
    captures   integer NOT NULL,
    -- O open, C captured, V voided, X expired.
    status     text COLLATE "C" NOT NULL,
    -- <seq>.<idx> of a final capture that is under way.
    busy       text COLLATE "C" NOT NULL,
    note       text NOT NULL,
    key_id     text COLLATE "C",
    PRIMARY KEY (account, placed_at, hold_id)
);
CREATE INDEX holds_by_id ON holds (account, hold_id);

-- Parts of groups that are set aside and neither paid nor given back.
CREATE TABLE group_parts (
    partition integer NOT NULL,
    part      text COLLATE "C" NOT NULL,
    PRIMARY KEY (partition, part)
);

-- Credits of transfers whose first entry is not here yet.
CREATE TABLE early_credits (
    origin_partition integer NOT NULL,
    origin_seq       bigint NOT NULL,
    origin_idx       smallint NOT NULL,
    partition        integer NOT NULL,
    seq              bigint NOT NULL,
    idx              smallint NOT NULL,
    at               timestamptz NOT NULL,
    account          text COLLATE "C" NOT NULL,
    PRIMARY KEY (origin_partition, origin_seq, origin_idx)
);
CREATE INDEX early_credits_by_place ON early_credits (partition, seq);
