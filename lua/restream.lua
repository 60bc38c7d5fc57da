-- restream: write an open entry to the stream of a partition that is being recovered.
--
-- KEYS  1 meta  2 journal
-- ARGV  1 epoch of the recovery  2 id of the entry  3… its fields and values
-- Returns 1, or 0 when the partition is no longer in the hands of this recovery

--@include lib/in_hands.lua

if not in_hands(KEYS[1], ARGV[1]) then return 0 end
redis.call('XADD', KEYS[2], ARGV[2], unpack(ARGV, 3))
return 1
