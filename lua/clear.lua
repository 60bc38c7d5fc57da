-- clear: delete keys of a partition that is being recovered. First of all, its meta gets a nonce that no journal knows,
-- and nothing else that it had: a partition of which only some keys are gone is never taken for a sound one.
-- A fault stays: no recovery lets a condemned partition serve.
--
-- KEYS  1 meta  2… other keys in its slot
-- ARGV  1 epoch of the recovery  2 the nonce, the same in each call
-- Returns 1, or 0 with nothing changed when the partition is no longer in the hands of this recovery

--@include lib/in_hands.lua

local k_meta = KEYS[1]
local epoch, nonce = ARGV[1], ARGV[2]

if not in_hands(k_meta, epoch) then return 0 end
if not in_hands(k_meta, epoch, nonce) then
  local fault = redis.call('HGET', k_meta, 'fault')
  redis.call('UNLINK', k_meta)
  redis.call('HSET', k_meta, 'state', 'recovering', 'epoch', epoch, 'nonce', nonce)
  if fault then redis.call('HSET', k_meta, 'fault', fault) end
end
if #KEYS > 1 then redis.call('UNLINK', unpack(KEYS, 2)) end
return 1
