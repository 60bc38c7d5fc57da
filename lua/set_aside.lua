-- set_aside: tell whether a partition was condemned; if it was, change its state from `recovering` to `stopped`.
-- A partition that is condemned during its recovery is never certified, and stays `recovering` until this script runs.
-- One step, because an operator may clear the fault in between.
--
-- KEYS  1 meta
-- Returns its fault, or false when it was not condemned

local k_meta = KEYS[1]

local meta = redis.call('HMGET', k_meta, 'state', 'fault')
if not meta[2] then return false end
if meta[1] == 'recovering' then redis.call('HSET', k_meta, 'state', 'stopped') end
return meta[2]
