-- restore_part: write fields of a snapshot, if the loading that was begun is still under way.
-- One step, because another recovery may have dropped the partition and may be loading it.
--
-- KEYS  1 meta  2 a hash, or the sorted set `open`
-- ARGV  1 epoch of the recovery  2 the nonce in meta while loading  3 HSET or ZADD  4… its arguments
-- Returns 1, or 0 when the partition is no longer in the hands of this recovery, or meta holds another nonce

--@include lib/in_hands.lua

local k_meta, k_target = KEYS[1], KEYS[2]
local epoch, loading, command = ARGV[1], ARGV[2], ARGV[3]

if not in_hands(k_meta, epoch, loading) then return 0 end
redis.call(command, k_target, unpack(ARGV, 4))
return 1
