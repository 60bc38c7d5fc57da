-- distrust: have a partition rebuilt from the journal, whatever it holds. Nobody writes to it from here on.
-- A nonce that no journal knows makes recovery drop the partition after it has drained its stream. One that is stopped
-- is recovered again.
--
-- KEYS  1 meta
-- ARGV  1 the nonce
-- Returns {1, epoch}, or {0, state} when the partition is moving or absent and is left as it is

local k_meta = KEYS[1]
local nonce = ARGV[1]

local meta = redis.call('HMGET', k_meta, 'state', 'epoch')
if meta[1] ~= 'live' and meta[1] ~= 'recovering' and meta[1] ~= 'stopped' then return {0, meta[1] or 'absent'} end
redis.call('HSET', k_meta, 'state', 'recovering', 'nonce', nonce)
redis.call('HDEL', k_meta, 'fault')
return {1, meta[2]}
