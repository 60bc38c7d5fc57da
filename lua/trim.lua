-- trim: forget stream entries that enough journal copies have, but no open entry.
-- One step, because between a look at the open entries and the trimming a recovery could have restored some.
--
-- KEYS  1 meta  2 journal  3 open
-- ARGV  1 seq  2 nonce of the newest entry that the asking copy has on disk
--       3 seq up to which a quorum of copies has all entries, at most ARGV[1]
-- Returns {state, seq of the newest entry, epoch, 1 if there is more to forget}, or 0 when the partition is neither live nor
--       moving, is behind ARGV[1], or has another entry at this seq: it was emptied, or its node lost writes, and nobody
--       has written to it since. A partition that is being moved keeps its stream as it is.
--
-- In front of the oldest open entry everything goes at once. Behind it the stream gets holes: whatever is not open goes one
-- by one, up to PINNED_ENTRIES_MAX entries before the newest. `trimmed` in meta is where the next call goes on: in
-- front of it only open entries are left. A settle takes its entry out of the stream when it stands there (apply.lua).

--@include lib/pinned.lua

local ENTRIES_MAX = 1000 -- looked at behind the oldest open entry in one call: a millisecond
local MEMBERS_MAX = 2000 -- of `open` read in one call; an entry has fewer, with a marker for each of its refunds

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
