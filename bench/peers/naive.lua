-- naive: one transfer, decided and written by itself, as one would begin. A peer of the benchmark, not of the engine.
--
-- KEYS  1 balances: account -> minor units   2 seen: transaction id -> '<outcome> <from> <to> <amount>'
-- ARGV  1 transaction id   2 from   3 to   4 amount in minor units
-- Returns '+' paid, 'i' insufficient funds, 'a' unknown account, '!' the id with another body; a repeat gets the first.

local k_balances, k_seen = KEYS[1], KEYS[2]
local transaction, from, to, amount = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local body = from .. ' ' .. to .. ' ' .. ARGV[4]
local old = redis.call('HGET', k_seen, transaction)
if old then return string.sub(old, 3) == body and string.sub(old, 1, 1) or '!' end

local outcome = '+'
local balance = redis.call('HGET', k_balances, from)
if not balance or redis.call('HEXISTS', k_balances, to) == 0 then
  outcome = 'a'
elseif tonumber(balance) < amount then
  outcome = 'i'
else
  redis.call('HINCRBY', k_balances, from, -amount)
  redis.call('HINCRBY', k_balances, to, amount)
end
redis.call('HSET', k_seen, transaction, outcome .. ' ' .. body)
return outcome
