-- read_account: one account's flags and balances, with the entry they reflect.
--
-- KEYS  1 meta  2 flags  3 noted  4… balance, held and pending hash of each currency of ARGV[3], in that order
-- ARGV  1 epoch  2 account  3 currencies, comma-joined; must name every currency of the partition
-- Returns {'OK', seq, nonce, flags or false, place of its metadata or false, then for each currency available, held and
--       pending, or false for each}; available is '<part> <carried>' if units were carried (lua/apply/decide.lua)
-- Refusals: as lib/guard.lua, and {'CURRENCIES', list}

--@include lib/guard.lua

local k_meta, k_flags, k_noted, K_BALANCE_FIRST = KEYS[1], KEYS[2], KEYS[3], 4
local epoch, account, currencies_asked = ARGV[1], ARGV[2], ARGV[3]

local meta = redis.call('HMGET', k_meta, 'seq', 'nonce', 'epoch', 'owner', 'state', 'currencies')
local refused = refusal(meta[3], epoch, meta[5], meta[4])
if refused then return refused end
if meta[6] ~= currencies_asked then return {'CURRENCIES', meta[6]} end

local reply = {'OK', tonumber(meta[1]), meta[2], redis.call('HGET', k_flags, account), redis.call('HGET', k_noted, account)}
for i = K_BALANCE_FIRST, #KEYS do
  local part = redis.call('HGET', KEYS[i], account)
  local carried = part and string.sub(account, 1, 1) == '@' and redis.call('HGET', KEYS[i], account .. '+')
  reply[#reply + 1] = carried and part .. ' ' .. carried or part
end
return reply
