-- trim: forget stream entries that enough journal copies have and that no open entry needs.
-- One step, because between a look at the open entries and the trimming a recovery could have restored some.
--
-- KEYS  1 meta  2 journal  3 open
-- ARGV  1 seq  2 nonce of the newest entry that the asking copy has on disk
--       3 seq up to which a quorum of copies has all entries, at most ARGV[1]
-- Returns {state, seq of the newest entry, epoch}, or 0 when the partition is neither live nor moving, is behind ARGV[1], or
--       has another entry at this seq: it was emptied, or its node lost writes, and nobody has written to it since.
--       A partition that is being moved keeps its stream as it is.

local k_meta, k_journal, k_open = KEYS[1], KEYS[2], KEYS[3]
local durable, durable_nonce, quorum = ARGV[1], ARGV[2], ARGV[3]

local meta = redis.call('HMGET', k_meta, 'state', 'seq', 'nonce', 'epoch')
if meta[1] ~= 'live' and meta[1] ~= 'moving' then return 0 end
local ahead = tonumber(meta[2]) - tonumber(durable)
if ahead < 0 or (ahead == 0 and meta[3] ~= durable_nonce) then return 0 end
if meta[1] == 'moving' then return {meta[1], meta[2], meta[4]} end
local oldest = redis.call('ZRANGE', k_open, 0, 0)[1]
local keep = tonumber(quorum)
if oldest then keep = math.min(keep, tonumber(string.match(oldest, '^%d+'))) end
redis.call('XTRIM', k_journal, 'MINID', '~', string.format('%d-0', keep))
return {meta[1], meta[2], meta[4]}
