-- unstream: drop the stream of a partition that is being recovered, before its open entries are written again.
-- One step, because a process that was stopped meanwhile may find the partition served again, by another's recovery:
-- then the stream has entries that may be on no disk yet.
--
-- KEYS  1 meta  2 journal
-- ARGV  1 epoch of the recovery
-- Returns 1, or 0 when the partition is no longer in the hands of this recovery

--@include lib/in_hands.lua

if not in_hands(KEYS[1], ARGV[1]) then return 0 end
redis.call('UNLINK', KEYS[2])
return 1
