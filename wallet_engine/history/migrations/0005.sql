-- Legs of groups that were paid here, and of which the partition that has decided them is not here yet: it alone says
-- their reference and metadata. Until then their postings have a type of ''.
CREATE TABLE early_legs (
    transaction_id uuid NOT NULL,
    -- Who pays the first leg.
    payer          text COLLATE "C" NOT NULL,
    leg            smallint NOT NULL,
    account        text COLLATE "C" NOT NULL,
    at             timestamptz NOT NULL,
    partition      integer NOT NULL,
    seq            bigint NOT NULL,
    idx            smallint NOT NULL,
    sub            smallint NOT NULL,
    PRIMARY KEY (partition, seq, idx, sub)
);
