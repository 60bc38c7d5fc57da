-- trim: forget stream entries that are on disk and that no open entry needs.
-- One step, because between a look at the open entries and the trimming a recovery could have restored some.
--
-- KEYS  1 meta  2 journal  3 open
-- ARGV  1 seq  2 nonce of the newest entry that is on disk
-- Returns 1; 2 when the partition is being moved, which leaves the stream as it is; or 0 when it is neither live nor
--       moving, is behind the disk, or has another entry at this seq: it was emptied, or its node lost writes, and
--       nobody has written to it since

local k_meta, k_journal, k_open = KEYS[1], KEYS[2], KEYS[3]
local durable, durable_nonce = ARGV[1], ARGV[2]

local meta = redis.call('HMGET', k_meta, 'state', 'seq', 'nonce')
if meta[1] ~= 'live' and meta[1] ~= 'moving' then return 0 end
local ahead = tonumber(meta[2]) - tonumber(durable)
if ahead < 0 or (ahead == 0 and meta[3] ~= durable_nonce) then return 0 end
if meta[1] == 'moving' then return 2 end
local oldest = redis.call('ZRANGE', k_open, 0, 0)[1]
local keep = tonumber(durable)
if oldest then keep = math.min(keep, tonumber(string.match(oldest, '^%d+'))) end
redis.call('XTRIM', k_journal, 'MINID', '~', string.format('%d-0', keep))
return 1
