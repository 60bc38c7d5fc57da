-- An open entry stays in the stream until its settle, because its words are read there. Entries around it are deleted
-- (trim.lua) once they are this many before the newest, so that an entry that stays open does not fill the stream.
local PINNED_ENTRIES_MAX = 64
