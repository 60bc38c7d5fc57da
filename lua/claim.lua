-- claim: take a partition for a recovery, and out of service. A partition that is absent gets a meta without a seq.
-- It has no owner then, on replicas neither (lib/own.lua). A meta of another type says nothing: it counts as absent.
-- One step, because a process that was stopped meanwhile may find the partition taken, or made live, in a newer epoch.
--
-- KEYS  1 meta
-- ARGV  1 epoch of the recovery; before it has one, the epoch in which it found the partition
-- Returns 1, or 0 with nothing changed when the partition has a newer epoch

local k_meta = KEYS[1]
local epoch = ARGV[1]

if redis.call('TYPE', k_meta).ok ~= 'hash' then redis.call('UNLINK', k_meta) end
if (tonumber(redis.call('HGET', k_meta, 'epoch')) or 0) > tonumber(epoch) then return 0 end
redis.call('HSET', k_meta, 'state', 'recovering', 'epoch', epoch, 'owner', '')
return 1
