-- restored: give a partition the meta fields of its snapshot, if all loaded fields are there.
-- One step, because a node may lose its memory between the loading and the count.
--
-- KEYS  1 meta  2… every other key that was loaded
-- ARGV  1 epoch of the recovery  2 the nonce in meta while loading  3… number of fields of each of those keys, then
--       fields and values of meta
-- Returns 1, or 0 when the partition is no longer in the hands of this recovery, meta has another nonce, or a key has
--       another number of fields

--@include lib/in_hands.lua

local k_meta = KEYS[1]
local epoch, loading = ARGV[1], ARGV[2]

if not in_hands(k_meta, epoch, loading) then return 0 end
for i = 2, #KEYS do
  local key = KEYS[i]
  local size = redis.call('TYPE', key).ok == 'zset' and redis.call('ZCARD', key) or redis.call('HLEN', key)
  if size ~= tonumber(ARGV[i + 1]) then return 0 end
end
redis.call('HSET', k_meta, unpack(ARGV, #KEYS + 2))
return 1
