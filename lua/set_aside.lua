-- set_aside: ask whether a partition was condemned, and see that it says `stopped` if it was.
-- One that is condemned while it is recovered is never certified, and says `recovering` until somebody looks here.
-- One step, because an operator may have taken the sentence back in between.
--
-- KEYS  1 meta
-- Returns why it is stopped, or false when it was not condemned

local k_meta = KEYS[1]

local meta = redis.call('HMGET', k_meta, 'state', 'fault')
if not meta[2] then return false end
if meta[1] == 'recovering' then redis.call('HSET', k_meta, 'state', 'stopped') end
return meta[2]
