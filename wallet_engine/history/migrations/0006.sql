-- The entry that placed the hold; 0 if it was placed before this column. A capture of an earlier entry took from another
-- hold, whose id was used again.
ALTER TABLE holds ADD COLUMN placed_seq bigint NOT NULL DEFAULT 0;
