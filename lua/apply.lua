-- apply: decide operations on partitions of this node, write every effect, append one journal entry to each partition.
-- The only script that changes money. Of a partition nothing is written before everything is decided; there is no rollback.
--
-- KEYS  none: a call is for partitions in many slots, which no call may declare. A service that is told of another node by
--       the name of a key is told here by {'ERROR', …}. A replay declares those of its partition.
-- ARGV  1 '<window_ms> <stream_entries_max> <issued_age_ms_max>'
--       then, for each partition, two:
--         '<{tag}> <epoch> <nonce> <issued_ms> <window> <currencies> <1 or 0> <record ends>': issued_ms is that of the oldest
--         operation; currencies are those whose balances are read, as 'EUR,USD'; 1 where an operation needs the keys of holds
--         and groups (`extended` in wallet_engine/domain/kinds.py); the record of a transfer or debit ends in 8 characters
--         that are given here, fingerprint and idx (wallet_engine/domain/memory.py)
--         the operations in columns (wallet_engine/domain/columns.py); goes into the stream as it is
--       replay only, which has one partition: 4 previous nonce  5 recorded time_ms  6 recorded outcomes  7 rules of the
--       entry  8 recorded seconds that had passed of the window, or empty
-- Returns an array of answers in the order of the partitions; a replay the answer alone. Each partition is by itself:
--       what refuses or fails in one does not touch the others.
-- An answer is the header of the entry as it stands in the stream, '<seq> <previous nonce> <nonce> <epoch> <time_ms>
--       <window>.<seconds> <outcomes> <rules>' (wallet_engine/domain/entry.py), and, for each repeated operation, '\n<detail>', and
--       for each that has changed a hold, '\n<idx> <record of it as the entry has left it>', in any order. Operations
--       that wrote nothing have seq and nonce of the newest entry there; a detail is '<idx> <outcome> <seq>.<idx> <opened_ms>' for
--       transfers and debits, '<idx> <outcome>' for credits; idx counts from 0; opened_ms is the time of that entry
--       while it stands in `open` (1 if its text is not in the stream), 0 afterwards. While it does, a debit's words are
--       compared with those of the entry: the outcome is '!' if they differ and only their fingerprints are equal, and '?'
--       if this call has read enough of such entries already: the repeat is to be asked again.
-- Refusals, nothing written: {'STATE', state} {'EPOCH', epoch} {'OWNER', id} {'WINDOW', number} {'FULL', entries}
--       {'EXPIRED', now_ms} {'CURRENCIES', list} {'MALFORMED', text}; of a replay {'DIFFERS', outcomes} when the entry does
--       not come out as recorded
-- Failures: {'ERROR', what Redis or Lua says, 1 if the entry had been made, else 0}. A replay fails as a whole.
--
-- There are two texts, since what a node keeps in Lua makes every call slower. The plain one lacks the lines behind `--@extended`:
-- rules of holds, groups, returns and of the most that an account may have. Operations of these kinds are malformed to it.
-- Where an account has such a most, meta.flagged is 2 and it refuses everything: {'LIMITS', '2'}. The extended text decides
-- everything; in such a partition it gets the keys of holds, too.
--
-- REPLAY (a constant put in front by the loader) re-executes a recorded entry while the partition is `recovering`:
-- recorded time, nonce and rules, no owner, no stream. It is another text with another digest, so a service can never
-- call it.
--
-- What costs here, in instructions of the machine: a key or argument of the call 2,000, a field read from a hash 2,300, a
-- string made 700 and 11 for each of its bytes (Redis 7 hashes all of them), a number made text 1,500, a closure 1,500.

--@include lib/guard.lua

local OPENED_BYTES_MAX = 150000 -- entries of the stream are read up to so much, and the one that passes it: half a millisecond
local RULES = ' 4' -- which rules decide, as the header ends (wallet_engine/domain/entry.py)

local byte, find, match, sub, gmatch = string.byte, string.find, string.match, string.sub, string.gmatch
local format, rep, concat = string.format, string.rep, table.concat
local call, unpack = redis.call, unpack

local window_ms_text, entries_max_text, age_ms_max_text = match(ARGV[1], '^(%d+) (%d+) (%d+)$')
local window_ms, entries_max, issued_age_ms_max = window_ms_text + 0, entries_max_text + 0, age_ms_max_text + 0
local time_ms, time_text, node_id -- of this node
if not REPLAY then
  local time = call('TIME')
  time_ms, node_id = time[1] * 1000 + math.floor(time[2] / 1000), call('CLUSTER', 'MYID')
  time_text = format('%d', time_ms)
end
local opened_bytes = 0 -- of entries read from streams, in the whole call
local writing -- whether the partition has its entry, and gets the effects

--@include apply/rules.lua

local function apply(head, operations)
--@include apply/guards.lua
--@include apply/read.lua
--@include apply/decide.lua
--@include apply/write.lua
--@include apply/answer.lua
end

if REPLAY then return apply(ARGV[2], ARGV[3]) end

local answers = {}
for at = 2, #ARGV, 2 do
  writing = false
  local passed, answer = pcall(apply, ARGV[at], ARGV[at + 1])
  if not passed then
    answer = {'ERROR', type(answer) == 'table' and answer.err or tostring(answer), writing and 1 or 0}
  end
  answers[at / 2] = answer
end
return answers
