-- release: forget a partition that has moved away, before the node loses the slot and would drop the keys by itself.
-- UNLINK gives the memory back in another thread; what Redis does on losing a slot may stop the node. `meta` stays
-- until then, and says `moved`: a service with an older map waits for the new one, and does not ask for recovery.
--
-- KEYS  1 meta  2… every other key of the partition
-- ARGV  1 epoch under which the partition was served here last
-- Returns 1, or 0 when what is here is not that: the partition is gone already, or has come back

if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'moved')
if #KEYS > 1 then redis.call('UNLINK', unpack(KEYS, 2)) end
return 1
