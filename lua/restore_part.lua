-- restore_part: write fields of a snapshot, if the loading that was begun is still under way.
-- One step, because another recovery may have dropped the partition and may be loading it.
--
-- KEYS  1 meta  2 a hash, or the sorted set `open`
-- ARGV  1 the nonce in meta while loading  2 HSET or ZADD  3… its arguments
-- Returns 1, or 0 when meta holds another nonce

local k_meta, k_target = KEYS[1], KEYS[2]
local loading, command = ARGV[1], ARGV[2]

if redis.call('HGET', k_meta, 'nonce') ~= loading then return 0 end
redis.call(command, k_target, unpack(ARGV, 3))
return 1
