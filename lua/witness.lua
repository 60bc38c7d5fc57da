-- witness: record how long a dedupe window has been in force by a caller's monotonic clock.
-- Redis has only a wall clock, which cannot tell a clock step of one day from the passing of one day.
-- It also takes the owner away from replicas that have copied all data since (lib/own.lua).
--
-- KEYS  1 meta
-- ARGV  1 epoch  2 window  3 whole seconds that it has been in force, as far as the caller knows
-- Returns {epoch, window, seconds}: what is in force, and for how long at least; 0 when the partition is not live.
--       Seconds of another epoch or window are ignored: a window that was opened again is younger.

--@include lib/own.lua

local k_meta = KEYS[1]
local epoch, window, seconds = ARGV[1], ARGV[2], ARGV[3]

local meta = redis.call('HMGET', k_meta, 'state', 'epoch', 'window', 'witnessed_s', 'owner')
if meta[1] ~= 'live' then return 0 end
if (meta[5] or '') ~= '' then own(k_meta, meta[5]) end
local witnessed = meta[4] or '0'
if meta[2] == epoch and meta[3] == window and tonumber(seconds) > tonumber(witnessed) then
  redis.call('HSET', k_meta, 'witnessed_s', seconds)
  witnessed = seconds
end
return {meta[2], meta[3], witnessed}
