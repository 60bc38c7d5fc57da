-- Which leg of a group a refund gives back; and what has gone back of a transfer is asked for by its id.
ALTER TABLE transfers ADD COLUMN refunds_leg smallint;
CREATE INDEX transfers_by_refunded ON transfers (refunds_id) WHERE refunds_id IS NOT NULL;
