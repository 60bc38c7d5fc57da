-- An open entry stays in the stream until its settle: its words are read there. What is around it goes (trim.lua), once it
-- is behind the newest entry by so many: one that does not end must not fill the stream.
local PINNED_ENTRIES_MAX = 64
