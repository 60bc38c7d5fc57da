-- The postings of system accounts by partition: each partition has a part of them, and the last posting of each part is asked
-- for. Their other index has the parts mixed, by time.
CREATE INDEX postings_of_system ON postings (account, currency, partition, at, seq, idx, sub) WHERE left(account, 1) = '@';
