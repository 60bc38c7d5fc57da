-- turn: change a partition's meta if it still has the values that the caller expects.
-- One key only: a node that is importing the slot refuses scripts of several keys if one of them is not there yet.
--
-- KEYS  1 meta
-- ARGV  1 number n of expected fields; then n times field, value; then field, value to be set.
--       An empty value means an absent field: setting it deletes the field. The exception is `currencies`, which is an
--       empty text in an empty partition and must exist: apply.lua and the oracle's image have it.
-- Returns {1, seq, nonce} after the change (false where absent), or {0} with nothing changed

--@include lib/own.lua

local k_meta = KEYS[1]
local expected = 2 * tonumber(ARGV[1])

for i = 2, expected, 2 do
  if (redis.call('HGET', k_meta, ARGV[i]) or '') ~= ARGV[i + 1] then return {0} end
end
for i = expected + 2, #ARGV, 2 do
  if ARGV[i + 1] == '' and ARGV[i] ~= 'currencies' then
    redis.call('HDEL', k_meta, ARGV[i])
  elseif ARGV[i] == 'owner' then
    own(k_meta, ARGV[i + 1])
  else
    redis.call('HSET', k_meta, ARGV[i], ARGV[i + 1])
  end
end
local meta = redis.call('HMGET', k_meta, 'seq', 'nonce')
return {1, meta[1], meta[2]}
