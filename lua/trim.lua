-- trim: delete stream entries that enough journal copies have, except open entries.
-- One step, because a recovery could restore open entries between reading `open` and trimming.
--
-- KEYS  1 meta  2 journal  3 open
-- ARGV  1 seq  2 nonce of the newest entry that the asking copy has on disk
--       3 seq up to which a quorum of copies has all entries, at most ARGV[1]
-- Returns {state, seq of the newest entry, epoch, 1 if there is more to delete}, or 0 when the partition is neither
--       live nor moving, is behind ARGV[1], or has another entry at this seq: it was emptied, or its node lost writes,
--       and nobody has written to it since. A partition that is being moved keeps its stream unchanged.
--
-- Entries older than the oldest open one are deleted at once. Newer ones that are not open are deleted one by one, up
-- to PINNED_ENTRIES_MAX before the newest, so the stream gets holes. The next call continues at `trimmed` in meta:
-- before it only open entries are left. A settle deletes its entry if that is before `trimmed` (apply.lua).

--@include lib/pinned.lua

local ENTRIES_MAX = 1000 -- entries after the oldest open one that a call checks: a millisecond
local MEMBERS_MAX = 2000 -- of `open` read in one call; one entry has fewer, with a marker for each of its refunds

local k_meta, k_journal, k_open = KEYS[1], KEYS[2], KEYS[3]
local durable, durable_nonce, quorum = ARGV[1], ARGV[2], ARGV[3]

local function id(seq) return string.format('%d-0', seq) end
local function seq_of(text) return tonumber(string.match(text, '^%d+')) end

local meta = redis.call('HMGET', k_meta, 'state', 'seq', 'nonce', 'epoch', 'trimmed')
if meta[1] ~= 'live' and meta[1] ~= 'moving' then return 0 end
local newest = tonumber(meta[2])
local ahead = newest - tonumber(durable)
if ahead < 0 or (ahead == 0 and meta[3] ~= durable_nonce) then return 0 end
if meta[1] == 'moving' then return {meta[1], meta[2], meta[4], 0} end
local keep = tonumber(quorum)
local oldest = redis.call('ZRANGE', k_open, 0, 0)[1]
oldest = oldest and seq_of(oldest) or keep
redis.call('XTRIM', k_journal, 'MINID', '~', id(math.min(keep, oldest)))

local last = math.min(keep, newest - PINNED_ENTRIES_MAX)
local from = math.max(oldest, tonumber(meta[5] or 0))
if from >= last then return {meta[1], meta[2], meta[4], 0} end
local there = redis.call('XRANGE', k_journal, id(from), '+', 'COUNT', 1)[1]
from = math.min(there and seq_of(there[1]) or last, last)
local to = math.min(last, from + ENTRIES_MAX)
local open = {}
local members = redis.call('ZRANGEBYSCORE', k_open, from, to - 1, 'LIMIT', 0, MEMBERS_MAX)
for i = 1, #members do open[members[i]] = true end
if #members == MEMBERS_MAX then to = seq_of(members[MEMBERS_MAX]) end
local gone = {}
for seq = from, to - 1 do
  if not open[string.format('%d', seq)] then gone[#gone + 1] = id(seq) end
end
if #gone > 0 then redis.call('XDEL', k_journal, unpack(gone)) end
redis.call('HSET', k_meta, 'trimmed', string.format('%d', to))
return {meta[1], meta[2], meta[4], to < last and 1 or 0}
