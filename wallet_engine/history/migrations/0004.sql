-- The newest row of the event log that was removed because it was old; all before it are gone too.
ALTER TABLE event_numbers ADD COLUMN removed bigint NOT NULL DEFAULT 0;
