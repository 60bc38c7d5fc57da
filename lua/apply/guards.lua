-- Guards: whether the partition takes this batch. `head` and `operations` are explained at the top of apply.lua.

--@include lib/common_kinds.lua
--@include lib/common_outcomes.lua
--@replay if ARGV[7] + 0 < 3 then RECEIVER_UNKNOWN = UNKNOWN_ACCOUNT end -- as in lib/sides.lua
--@include lib/memory.lua
--@include lib/bounds.lua
--@include lib/pinned.lua

local STREAM_CHECK_ENTRIES = 16 -- the stream's length is checked once in so many entries
local ENDING_ENTRIES_MAX = 20000 -- above the stream's limit, for what ends begun work, as credits, refunds and settles
local LOOK_AGAIN = '?' -- outcome in a detail, as in wallet_engine/engine/batch.py
local FLAGS_MAX = 20000 -- operations times currencies, if flags are read: flags may name a limit in each currency
local MANY = 100 -- batches of at least so many operations are checked for runs of one field
local LONG = 400 -- bytes of a record of credits; what this batch adds to a longer one is collected first

local tag, epoch, nonce, issued_text, window_text, currency_list, extended, record_end_at =
  match(head, '^(%S+) (%d+) (%x+) (%d+) (%d+) (%S*) ([01]) ()')
if not tag then return {'MALFORMED', head} end
-- `x + 0` converts a string to a number in half the time of tonumber(), and fails on anything else.
local window_asked = window_text + 0
extended = extended == '1'
--@include lib/keys.lua

-- The first access to a key: it fails if another node serves the slot.
local meta = call('HMGET', k_meta, 'seq', 'nonce', 'epoch', 'owner', 'state', 'clock', 'window', 'witnessed_s',
  'currencies', 'flagged')
local readable, columns = pcall(cjson.decode, operations)
if not readable then return {'MALFORMED', tostring(columns)} end
if REPLAY then
  if meta[5] ~= 'recovering' then return {'STATE', meta[5] or 'absent'} end
--@replay   if meta[3] ~= ARGV[9] then return {'EPOCH', meta[3]} end
else
  local refused = refusal(meta[3], epoch, meta[5], meta[4], node_id)
  if refused then return refused end
end
local seq_last, nonce_last, clock = meta[1] + 0, meta[2], meta[6] + 0
local window, witnessed_s, currencies_known = meta[7] + 0, meta[8] or '0', meta[9]
local flags_exist = meta[10]
--@plain if flags_exist == '2' then return {'LIMITS', '2'} end
--@extended local limited = flags_exist == '2' -- whether an account here has a maximum balance
--@extended if limited and not extended then return {'LIMITS', '2'} end -- the keys of holds are missing

local now_ms
local recorded, rules_before, rules_text = nil, false, RULES -- of a replay: outcomes, whether rules 1 decided
if REPLAY then
  recorded, rules_before = ARGV[6], ARGV[7] == '1'
  rules_text = rules_before and '' or ' ' .. ARGV[7]
  if nonce_last ~= ARGV[4] then return {'MALFORMED', 'entry does not continue ' .. nonce_last} end
  now_ms = ARGV[5] + 0
  witnessed_s = ARGV[8] -- empty in entries from before it was recorded
  if window_asked ~= window and window_asked ~= window + 1 then return {'WINDOW', window} end
else
  now_ms = time_ms
  local age_ms = now_ms - issued_text
  if age_ms > issued_age_ms_max or age_ms < -issued_age_ms_max then return {'EXPIRED', now_ms} end
  if now_ms < clock then now_ms = clock end
  local window_due = window
  -- Seconds by a monotonic clock (witness.lua), because TIME may step.
  if witnessed_s * 1000 >= window_ms and seq_last > 0 then window_due, witnessed_s = window + 1, '0' end
  if window_asked ~= window_due then return {'WINDOW', window_due} end
  if seq_last % STREAM_CHECK_ENTRIES == 0 then
    local entries = call('XLEN', k_journal)
    if entries >= entries_max then
      entries = entries - call('ZCARD', k_open) -- open entries wait for receivers, the others for the journal
      local most = find(columns[1], '[^bcgjlrsuwy]') and entries_max or entries_max + ENDING_ENTRIES_MAX
      if entries >= most then return {'FULL', entries} end
    end
  end
end
