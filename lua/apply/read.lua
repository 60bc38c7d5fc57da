-- Read: everything that is needed, in a few calls.

-- Operation i is kinds[i], columns[FIELD + i], columns[ACCOUNT + i] and columns[AMOUNT + i]. The receivers of
-- transfers and @transit follow the accounts; the details follow the amounts. Separate tables would cost more.
local kinds_text, currencies, account_count = columns[1], columns[2], columns[4] - 1
local count = #kinds_text
local ACCOUNT, AMOUNT = FIELD + count, FIELD + 1 + count + account_count
local last, notes = #columns, nil -- notes: idx, as text -> note of the operation
if type(columns[last]) == 'table' then last, notes = last - 1, columns[last].notes end
if count < 1 or count > OPERATIONS_MAX or account_count < count or columns[AMOUNT] ~= TRANSIT
  or last < AMOUNT + count then
  return {'MALFORMED', 'columns of ' .. count}
end
if flags_exist and not REPLAY and count * (#currencies_known + 1) > FLAGS_MAX * (CURRENCY_LENGTH + 1) and count > 1 then
  return {'CURRENCIES', currencies_known} -- their number says how many operations a call may have
end
local kinds = {byte(kinds_text, 1, count)}
local currency_each = type(currencies) == 'table' and currencies
local remembering = find(kinds_text, '[^sofn]') -- whether the memory of transactions and credits is needed
local uncommon = not find(kinds_text, '^[dcts]*$') -- half the cost of searching for any other letter
if flags_exist or uncommon then k_flags = 'flags' .. tag end
local flagging = uncommon and find(kinds_text, 'f', 1, true) -- whether every currency of the partition is needed
--@extended local holding = uncommon and find(kinds_text, '[hikqulve]')
--@extended local returning = uncommon and find(kinds_text, '[xzj]')
--@extended local grouping = uncommon and find(kinds_text, '[mpgybw]')

-- A ledger is the state of one currency. values: balances read, by position among the accounts; known: account -> minor
-- units, if this batch has changed them; written: fields and values for HSET; next: the ledger of the next currency.
local ledgers, ledger_first = {}, nil
local values_in -- reads the balances of one currency; nil if there is only one
if #currency_list > CURRENCY_LENGTH then
--@include lib/several.lua
end
for at = 1, #currency_list, CURRENCY_LENGTH + 1 do
  local currency = sub(currency_list, at, at + CURRENCY_LENGTH - 1)
  local key = BALANCE_OF .. currency .. tag
  local values = values_in and values_in(key, currency) or call('HMGET', key, unpack(columns, ACCOUNT + 1, AMOUNT))
  ledger_first = {currency = currency, key = key, values = values, known = {}, written = {}, written_count = 0,
    transit = (values[account_count + 1] or 0) + 0, transit_changed = false, next = ledger_first or false}
--@extended   if extended then
--@extended     ledger_first.k_held, ledger_first.k_pending = HELD_OF .. currency .. tag, PENDING_OF .. currency .. tag
--@extended     ledger_first.held, ledger_first.pending = {}, {}
--@extended   end
  ledgers[currency] = ledger_first
end
if flagging then
  for listed in gmatch(currencies_known, '[^,]+') do
    if not ledgers[listed] then return {'CURRENCIES', currencies_known} end
  end
end

local nothing = {}
local flags = nothing
if flags_exist then
  flags = {}
  local values = call('HMGET', k_flags, unpack(columns, ACCOUNT + 1, AMOUNT - 1))
  for i = 1, account_count do flags[columns[ACCOUNT + i]] = values[i] or nil end
end

local recalled, recalled_before = nothing, nothing -- position of an operation -> what is remembered of it
if remembering then
  local recall
  if count >= MANY and find(kinds_text, 'c', 1, true) then
--@include lib/runs.lua
  end
  recalled = recall and recall(k_seen) or call('HMGET', k_seen, unpack(columns, FIELD + 1, ACCOUNT))
  if window_asked > 1 then
    recalled_before = recall and recall(k_seen_before) or call('HMGET', k_seen_before, unpack(columns, FIELD + 1, ACCOUNT))
  end
end

-- The keys of a call are not declared, because they are in many slots. If somebody is migrating a slot, access to a
-- missing key fails. So every key that may be written is read first, or is written before all others.
if uncommon and not REPLAY then
  if not flags_exist and find(kinds_text, '[ofa]') then call('HLEN', k_flags) end
  if notes and find(kinds_text, '[oa]') then call('HLEN', 'noted' .. tag) end
--@extended   if holding then call('ZCARD', k_due) end
--@extended   if grouping then call('HLEN', k_group) end
end
if window_asked ~= window and not REPLAY then call('HLEN', k_seen_dropped) end
