-- read_transfer: what the dedupe memory holds under one field, with the entry it reflects.
--
-- KEYS  1 meta  2 open  3 seen of the window in force  4 seen of the window before
-- ARGV  1 epoch  2 window  3 field: '<from> <txid>' of a transfer, '<p>.<seq without its last digit>' of received credits
-- Returns {'OK', seq, nonce, record or false, record of the window before or false, 1 if the transfer's entry is open}
-- Refusals: as lib/guard.lua, and {'WINDOW', number}

--@include lib/guard.lua

local k_meta, k_open, k_seen, k_seen_before = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, window, field = ARGV[1], ARGV[2], ARGV[3]

local meta = redis.call('HMGET', k_meta, 'seq', 'nonce', 'epoch', 'owner', 'state', 'window')
local refused = refusal(meta[3], epoch, meta[5], meta[4])
if refused then return refused end
if meta[6] ~= window then return {'WINDOW', tonumber(meta[6])} end

local record, before = redis.call('HGET', k_seen, field), redis.call('HGET', k_seen_before, field)
local open = 0
local entry_seq = string.match(record or before or '', '^.(%d+)%.%d+ ')
if entry_seq and redis.call('ZSCORE', k_open, entry_seq) then open = 1 end
return {'OK', tonumber(meta[1]), meta[2], record, before, open}
