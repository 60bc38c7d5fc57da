-- distrust: have a partition rebuilt from the journal, whatever it holds. This stops all writes to it.
-- A nonce that no journal knows makes recovery drain the partition's stream, then drop the partition. A stopped
-- partition is recovered again.
--
-- KEYS  1 meta
-- ARGV  1 the nonce  2 '1' if nothing is to be drained: what no journal has is given up
-- Returns {1, epoch}, or {0, state or "absent"} with nothing changed when it is not live, recovering or stopped

local k_meta = KEYS[1]
local nonce = ARGV[1]

local meta = redis.call('HMGET', k_meta, 'state', 'epoch')
if meta[1] ~= 'live' and meta[1] ~= 'recovering' and meta[1] ~= 'stopped' then return {0, meta[1] or 'absent'} end
redis.call('HSET', k_meta, 'state', 'recovering', 'nonce', nonce)
redis.call('HDEL', k_meta, 'fault')
if ARGV[2] == '1' then redis.call('HSET', k_meta, 'seq', 0) end
return {1, meta[2]}
