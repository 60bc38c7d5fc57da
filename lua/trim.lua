-- trim: forget stream entries that are on disk and that no open entry needs.
-- One step, because between a look at the open entries and the trimming a recovery could have restored some.
--
-- KEYS  1 meta  2 journal  3 open
-- ARGV  1 seq of the newest entry that is on disk
-- Returns 1, or 0 when the partition is not live

local k_meta, k_journal, k_open = KEYS[1], KEYS[2], KEYS[3]
local durable = ARGV[1]

if redis.call('HGET', k_meta, 'state') ~= 'live' then return 0 end
local oldest = redis.call('ZRANGE', k_open, 0, 0)[1]
local keep = tonumber(durable)
if oldest then keep = math.min(keep, tonumber(string.match(oldest, '^%d+'))) end
redis.call('XTRIM', k_journal, 'MINID', '~', string.format('%d-0', keep))
return 1
