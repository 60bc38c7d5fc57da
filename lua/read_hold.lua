-- read_hold: one hold, with the entry it reflects.
--
-- KEYS  1 meta  2 hold  3 seen of the window in force  4 seen of the window before
-- ARGV  1 epoch  2 window  3 field of the hold (wallet_engine/domain/holds.py)
-- Returns {'OK', seq, nonce, record or false}
-- Refusals: as lib/guard.lua, and {'WINDOW', number}

--@include lib/guard.lua

local k_meta, k_hold, k_seen, k_seen_before = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, window, field = ARGV[1], ARGV[2], ARGV[3]

local meta = redis.call('HMGET', k_meta, 'seq', 'nonce', 'epoch', 'owner', 'state', 'window')
local refused = refusal(meta[3], epoch, meta[5], meta[4])
if refused then return refused end
if meta[6] ~= window then return {'WINDOW', tonumber(meta[6])} end
local record = redis.call('HGET', k_hold, field) or redis.call('HGET', k_seen, 'h' .. field)
  or redis.call('HGET', k_seen_before, 'h' .. field)
return {'OK', tonumber(meta[1]), meta[2], record}
