-- The same random number in all rows that were written together, by which a reader's place is known to be of this log: after
-- a restored backup other rows get the same numbers. Absent in rows from before this column.
ALTER TABLE event_log ADD COLUMN mark bigint;
