-- The operation '<partition>.<seq>.<idx>' whose transfer a refund gives back. An id may be used again after it was forgotten,
-- and the clocks of two partitions may differ, so neither id nor time says which use of an id was refunded. Absent in
-- refunds from before this column.
ALTER TABLE transfers ADD COLUMN refunds_origin text COLLATE "C";
-- Hash of a group's body, by which its legs elsewhere find it. Absent in groups and legs from before this column.
ALTER TABLE groups ADD COLUMN mark text COLLATE "C";
ALTER TABLE early_legs ADD COLUMN mark text COLLATE "C";
