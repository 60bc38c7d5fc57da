-- release: forget a partition that has moved away, before the node loses the slot and would drop the keys by itself.
-- UNLINK gives the memory back in another thread; what Redis does on losing a slot may stop the node.
--
-- KEYS  1 meta  2… every other key of the partition
-- ARGV  1 epoch under which the partition was served here last
-- Returns 1, or 0 when what is here is not that: the partition is gone already, or has come back

if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
redis.call('UNLINK', unpack(KEYS))
return 1
