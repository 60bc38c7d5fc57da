-- witness: count time that passes while a dedupe window is in force, as somebody's monotonic clock has seen it.
-- Redis has a wall clock only: by that a step of a day cannot be told from a day.
--
-- KEYS  1 meta
-- ARGV  1 epoch  2 window  3 so many whole seconds it has been in force, for all the asking process knows
-- Returns {epoch, window, seconds} of what is in force, and for how long at least; 0 when the partition is not live.
--       What is asked about another epoch or window is not believed: a window that was opened again is younger.

local k_meta = KEYS[1]
local epoch, window, seconds = ARGV[1], ARGV[2], ARGV[3]

local meta = redis.call('HMGET', k_meta, 'state', 'epoch', 'window', 'witnessed_s')
if meta[1] ~= 'live' then return 0 end
local witnessed = meta[4] or '0'
if meta[2] == epoch and meta[3] == window and tonumber(seconds) > tonumber(witnessed) then
  redis.call('HSET', k_meta, 'witnessed_s', seconds)
  witnessed = seconds
end
return {meta[2], meta[3], witnessed}
