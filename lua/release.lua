-- release: delete a partition that has moved away, before the node loses the slot and would drop the keys itself.
-- UNLINK frees the memory in another thread; when Redis drops the keys of a lost slot, it may block the node. `meta`
-- stays until then with state `moved`, so a service with an older map waits for the new one and asks for no recovery.
--
-- KEYS  1 meta  2… every other key of the partition
-- ARGV  1 epoch under which the partition was last served here
-- Returns 1, or 0 when meta has another epoch or none: the partition is already gone, or has come back

if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'moved')
if #KEYS > 1 then redis.call('UNLINK', unpack(KEYS, 2)) end
return 1
