-- read_transfer: what the dedupe memory holds under one field, with the entry it reflects.
--
-- KEYS  1 meta  2 journal  3 open  4 seen of the window in force  5 seen of the window before
-- ARGV  1 epoch  2 window  3 field (wallet_engine/domain/memory.py)
-- Returns {'OK', seq, nonce, record or false, record of the window before or false, operation}. While the entry of a
--       transfer is in `open`, operation is its line, 'd <id> alice bob 5 USD', or '' if the stream lacks the entry;
--       otherwise false.
-- Refusals: as lib/guard.lua, and {'WINDOW', number}

--@include lib/guard.lua
--@include lib/memory.lua
--@include lib/places.lua

local k_meta, k_journal, k_open, k_seen, k_seen_before = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local epoch, window, field = ARGV[1], ARGV[2], ARGV[3]

local meta = redis.call('HMGET', k_meta, 'seq', 'nonce', 'epoch', 'owner', 'state', 'window')
local refused = refusal(meta[3], epoch, meta[5], meta[4])
if refused then return refused end
if meta[6] ~= window then return {'WINDOW', tonumber(meta[6])} end

local record, before = redis.call('HGET', k_seen, field), redis.call('HGET', k_seen_before, field)
local operation = false
local transfer = record or before
if transfer and not string.find(field, '.', 1, true) then -- fields of credits have a dot
  local entry_seq, idx = place_of(transfer)
  if redis.call('ZSCORE', k_open, entry_seq) then
    local entry = redis.call('XRANGE', k_journal, entry_seq .. '-0', entry_seq .. '-0')[1]
    operation = entry and transfer_of(cjson.decode(entry[2][4]), idx + 1) or ''
  end
end
return {'OK', tonumber(meta[1]), meta[2], record, before, operation}
