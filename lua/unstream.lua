-- unstream: drop the stream of a partition that is being recovered, before its open entries are written again.
-- One step, because a process that was stopped meanwhile may find the partition served again, by another's recovery:
-- then the stream has entries that may be on no disk yet.
--
-- KEYS  1 meta  2 journal
-- ARGV  1 epoch of the recovery
-- Returns 1, or 0 when the partition is no longer in the hands of this recovery

local k_meta, k_journal = KEYS[1], KEYS[2]

local meta = redis.call('HMGET', k_meta, 'state', 'epoch')
if meta[1] ~= 'recovering' or meta[2] ~= ARGV[1] then return 0 end
redis.call('UNLINK', k_journal)
return 1
