-- apply: decide operations on partitions of this node, write every effect, append one journal entry to each partition.
-- The only script that changes money. It decides everything of a partition before it writes: there is no rollback.
--
-- KEYS  none: a call covers partitions in many slots, and no call may declare keys of many slots. Where Redis would
--       answer MOVED for a declared key, the partition's answer is {'ERROR', …}. A replay declares all its keys.
-- ARGV  1 '<window_ms> <stream_entries_max> <issued_age_ms_max>'
--       then two for each partition:
--         '<{tag}> <epoch> <nonce> <issued_ms> <window> <currencies> <1 or 0> <record ends>': issued_ms is that of the
--         oldest operation; currencies, as 'EUR,USD', are those whose balances are read; 1 if an operation needs the
--         keys of holds and groups (`extended` in wallet_engine/domain/kinds.py); record ends are 8 characters,
--         fingerprint and idx, for each operation with a record of its own (wallet_engine/domain/memory.py)
--         the operations in columns (wallet_engine/domain/columns.py), which go into the stream unchanged
--       replay only, for one partition: 4 previous nonce  5 recorded time_ms  6 recorded outcomes  7 rules of the entry
--       8 recorded seconds that had passed of the window, or empty  9 epoch of the recovery, which meta must have
-- Returns an array of answers in the order of the partitions; a replay returns the answer alone. Partitions are
--       independent: a refusal or failure in one does not affect the others.
-- An answer is the entry's header as in the stream, '<seq> <previous nonce> <nonce> <epoch> <time_ms>
--       <window>.<seconds> <outcomes> <rules>' (wallet_engine/domain/entry.py). If nothing was written, seq and nonce
--       are those of the newest entry. Then, in any order, '\n<detail>' for each repeat and each refused group, and
--       '\n<idx> <record of the hold after this entry>' for each applied h, i, k and v, and each l that finds its hold.
--       A detail is '<idx> <outcome>' for credits, '<idx> ' and what rules/group*.lua tell for groups, and
--       '<idx> <outcome> <seq>.<idx> <opened_ms>' for others; idx counts from 0. While the entry of a repeated debit is
--       in `open`, opened_ms is its time, or 1 if the stream lacks its text; for q and z it is then 1; otherwise it is
--       0. An open debit is compared with its entry: the outcome is '!' if only the fingerprints are equal, and '?' if
--       this call has read enough such entries: ask again.
-- Refusals, nothing written: {'STATE', state} {'EPOCH', epoch} {'OWNER', id} {'WINDOW', number} {'FULL', entries}
--       {'EXPIRED', now_ms} {'CURRENCIES', list} {'LIMITS', '2'} {'MALFORMED', text}; of a replay {'DIFFERS', outcomes}
--       if the outcomes are not those recorded, or nothing would be written
-- Failures: {'ERROR', text of Redis or Lua, 1 if the entry had been made, else 0}. A replay fails as a whole.
--
-- There are two texts, because everything that a node keeps in Lua slows down every call. The plain text lacks the
-- lines after `--@extended`: rules of holds, groups, returns, flags and maximum balances. To it such operations are
-- malformed. If an account has a maximum balance, meta.flagged is 2 and the plain text refuses everything:
-- {'LIMITS', '2'}. The extended text decides everything; in such a partition it must get the keys of holds, too.
--
-- REPLAY (a constant that the loader puts in front) re-executes a recorded entry while the partition is `recovering`:
-- recorded time, nonce and rules, no owner, no stream. Its text and digest differ, so a service can never call it.
--
-- Costs in machine instructions: a key or argument of the call 2,000, a field read from a hash 2,300, a string made 700
-- and 11 for each of its bytes (Redis 7 hashes all of them), a number made text 1,500, a closure 1,500.

--@include lib/guard.lua

local OPENED_BYTES_MAX = 150000 -- of stream entries read in a call, plus the rest of the last one: half a millisecond
local RULES = ' 6' -- end of the header: the rules that decide (wallet_engine/domain/entry.py)

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
local opened_bytes = 0 -- of stream entries read so far in the whole call
local writing -- whether the partition's entry is made, and its effects are being written

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
