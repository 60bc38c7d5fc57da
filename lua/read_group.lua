-- read_group: what a group's home partition remembers of it, with the entry it reflects.
--
-- KEYS  1 meta  2 group  3 seen of the window in force  4 seen of the window before
-- ARGV  1 epoch  2 window  3 field of (first payer, id) (wallet_engine/domain/groups.py)
--       4 mark of the record's body, or empty: of the body that is remembered
-- Returns {'OK', seq, nonce, answer or false, `g` memory beside it or false, record while it is under way or false}
-- Refusals: as lib/guard.lua, and {'WINDOW', number}

--@include lib/guard.lua

local k_meta, k_group, k_seen, k_seen_before = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, window, field, mark = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local meta = redis.call('HMGET', k_meta, 'seq', 'nonce', 'epoch', 'owner', 'state', 'window')
local refused = refusal(meta[3], epoch, meta[5], meta[4])
if refused then return refused end
if meta[6] ~= window then return {'WINDOW', tonumber(meta[6])} end
local function seen(name)
  return redis.call('HGET', k_seen, name) or redis.call('HGET', k_seen_before, name)
end
local answer, remembered = seen(field), seen('g' .. field)
if mark == '' then mark = remembered and string.match(remembered, '^%S+ (%S-):') end
local record = mark and redis.call('HGET', k_group, field .. mark) or false -- a nil would end the reply
return {'OK', tonumber(meta[1]), meta[2], answer, remembered, record}
