-- condemn: stop all writes to a partition, because an entry of its journal is not what the rules decide.
-- No recovery lets it serve while it has a `fault`; `distrust` removes that. A partition that is being moved is left
-- unchanged for now: the driver of the move holds it frozen, and makes the copy live whatever its fault. One that is
-- being recovered gets the fault but keeps its state: `set_aside` stops it when that recovery is over.
--
-- KEYS  1 meta
-- ARGV  1 what is wrong, for people
-- Returns the state that the partition was in, or "absent"

local k_meta = KEYS[1]
local why = ARGV[1]

local state = redis.call('HGET', k_meta, 'state')
if not state or state == 'moving' or state == 'copying' then return state or 'absent' end
redis.call('HSET', k_meta, 'fault', why)
if state == 'live' then redis.call('HSET', k_meta, 'state', 'stopped') end
return state
