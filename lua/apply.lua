-- apply: decide a batch of operations on one partition in order, write every effect, append one journal entry.
-- The only script that changes money. Nothing is written before everything is decided; there is no rollback.
--
-- KEYS  1 meta  2 journal  3 open  4 flags  5 seen of the window in force  6 seen of the window before
--       7 seen of the window before that, dropped when the window rotates
--       8… balance hash of each currency of ARGV[6], in that order
-- ARGV  1 epoch      2 nonce       3 issued_ms (oldest operation)   4 window      5 window_ms
--       6 currencies, comma-joined 7 number of operations           8 operations (domain/entry.py)
--       9 stream_entries_max       10 issued_age_ms_max
--       replay only: 11 previous nonce  12 recorded time_ms
-- Returns {'OK', seq, nonce, time_ms, outcomes, detail…}: seq and nonce of the newest entry, whether or not this
--       batch wrote it; detail for each repeated operation: '<idx> <outcome> <seq>.<idx> <opened_ms>' for transfers
--       and debits, '<idx> <outcome>' for credits; idx counts from 0; opened_ms is the time of that entry while it
--       stands in `open` (1 if its text is not in the stream), 0 afterwards.
-- Refusals, nothing written: {'STATE', state} {'EPOCH', epoch} {'OWNER', id} {'WINDOW', number} {'FULL', length}
--       {'EXPIRED', now_ms} {'CURRENCIES', list} {'MALFORMED', text}
--
-- REPLAY (a constant put in front by the loader) re-executes a recorded entry while the partition is `recovering`:
-- recorded time and nonce, no owner, no stream. It is another text with another digest, so a service can never call it.

--@include lib/outcomes.lua
--@include lib/guard.lua

local AMOUNT_MAX = 9007199254740991
local OPERATIONS_MAX = 1500 -- unpack() fails near 8,000 values; an operation writes two accounts at most
local STREAM_CHECK_ENTRIES = 16 -- the stream's length is looked at every so many entries
local TRANSIT = '@transit'
local SYSTEM = 64 -- '@'

local byte, find, match, sub, gmatch = string.byte, string.find, string.match, string.sub, string.gmatch
local format, concat, floor = string.format, table.concat, math.floor
local call = redis.call

local k_meta, k_journal, k_open, k_flags = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local k_seen, k_seen_before, k_seen_dropped = KEYS[5], KEYS[6], KEYS[7]
local K_BALANCE_FIRST = 8
local epoch, nonce, issued_ms, window_asked = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local window_ms, currencies_asked, count_asked = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
local operations, stream_entries_max, issued_age_ms_max = ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])

-- Guards ----------------------------------------------------------------------------------------------------------

local meta = call('HMGET', k_meta, 'seq', 'nonce', 'epoch', 'owner', 'state', 'clock', 'window', 'window_started',
  'currencies', 'flagged')
local seq_last, nonce_last, clock = tonumber(meta[1]), meta[2], tonumber(meta[6])
local window, window_started, currencies_known = tonumber(meta[7]), tonumber(meta[8]), meta[9]
local flags_exist = meta[10] == '1'

local now_ms
if REPLAY then
  if meta[5] ~= 'recovering' then return {'STATE', meta[5] or 'absent'} end
  if nonce_last ~= ARGV[11] then return {'MALFORMED', 'entry does not continue ' .. nonce_last} end
  now_ms = tonumber(ARGV[12])
  if window_asked ~= window and window_asked ~= window + 1 then return {'WINDOW', window} end
else
  local refused = refusal(meta[3], epoch, meta[5], meta[4])
  if refused then return refused end
  local time = call('TIME')
  now_ms = time[1] * 1000 + floor(time[2] / 1000)
  local age_ms = now_ms - issued_ms
  if age_ms > issued_age_ms_max or age_ms < -issued_age_ms_max then return {'EXPIRED', now_ms} end
  if now_ms < clock then now_ms = clock end
  local window_due = window
  if window_started > 0 and now_ms - window_started >= window_ms then window_due = window + 1 end
  if window_asked ~= window_due then return {'WINDOW', window_due} end
  if seq_last % STREAM_CHECK_ENTRIES == 0 then
    local length = call('XLEN', k_journal)
    if length >= stream_entries_max then return {'FULL', length} end
  end
end

-- Read ------------------------------------------------------------------------------------------------------------

local balances, wanted, balance_keys = {}, {}, {} -- by currency: account -> minor units or false; accounts to read
local currency_count = 0
for currency in gmatch(currencies_asked, '[^,]+') do
  balances[currency], wanted[currency] = {}, {}
  balance_keys[currency] = KEYS[K_BALANCE_FIRST + currency_count]
  currency_count = currency_count + 1
end

local function want(known, names, account)
  if known[account] == nil then
    known[account] = false
    names[#names + 1] = account
  end
end

local kinds, ids, as, bs, amounts, currencies, bodies = {}, {}, {}, {}, {}, {}, {}
local fields, field_count = {}, 0 -- dedupe fields to read
local ordinary = 0 -- how many are transfers, debits or credits
local count, length = 0, 0 -- length: what the operations take of the text, which holds nothing else
for kind, id, a, body, b, amount, currency in gmatch(operations, '(%l) (%S+) (%S+) ((%S+) (%d+) (%S+))\n') do
  count = count + 1
  length = length + #id + #a + #body + 5
  kinds[count], as[count], bs[count], currencies[count], bodies[count] = kind, a, b, currency, body
  local known = balances[currency]
  if kind == 'd' or kind == 'c' or kind == 't' or kind == 'r' then
    amount = tonumber(amount)
    amounts[count] = amount
    local other = kind == 't' and b or TRANSIT
    if not known or amount > AMOUNT_MAX or amount < 1 or a == other then
      return {'MALFORMED', 'operation ' .. count}
    end
    want(known, wanted[currency], a)
    if known[other] == nil then want(known, wanted[currency], other) end
    if kind ~= 'c' then id = a .. ' ' .. id end
    if kind ~= 'r' then ordinary = ordinary + 1 end
    field_count = field_count + 1
    fields[field_count] = id
  elseif kind == 'o' then
    local limit_ok = b == '-' or (find(b, '^%d+$') and tonumber(b) <= AMOUNT_MAX)
    if not known or not limit_ok then return {'MALFORMED', 'operation ' .. count} end
    want(known, wanted[currency], a)
  elseif kind == 'f' then
    for listed in gmatch(currencies_known, '[^,]+') do
      if not balances[listed] then return {'CURRENCIES', currencies_known} end
      want(balances[listed], wanted[listed], a)
    end
  elseif kind ~= 's' then
    return {'MALFORMED', 'operation ' .. count}
  end
  ids[count] = id
end
if count ~= count_asked or length ~= #operations or count > OPERATIONS_MAX or count == 0 then
  return {'MALFORMED', 'count ' .. count}
end

for currency, names in pairs(wanted) do
  if #names > 0 then
    local known, values = balances[currency], call('HMGET', balance_keys[currency], unpack(names))
    for i = 1, #names do
      local value = values[i]
      if value then known[names[i]] = tonumber(value) end
    end
  end
end

local flags = {}
if flags_exist then
  local names = {}
  for i = 1, count do
    names[#names + 1] = as[i]
    if kinds[i] == 't' then names[#names + 1] = bs[i] end
  end
  local values = call('HMGET', k_flags, unpack(names))
  for i = 1, #names do flags[names[i]] = values[i] or nil end
end

local seen, seen_before = {}, {}
if field_count > 0 then
  local values = call('HMGET', k_seen, unpack(fields))
  for i = 1, field_count do seen[fields[i]] = values[i] or nil end
  if window_asked > 1 then
    values = call('HMGET', k_seen_before, unpack(fields))
    for i = 1, field_count do seen_before[fields[i]] = values[i] or nil end
  end
end

-- Decide ----------------------------------------------------------------------------------------------------------

local seq = seq_last + 1
local seq_text = format('%d', seq)
local effect = false -- whether anything is to be written
local debited = false -- whether money leaves this partition with this entry
local remember = {} -- dedupe fields to write
local changed = {} -- by currency: accounts whose balance changes
for currency in pairs(balances) do changed[currency] = {} end

-- A closure costs Redis as much as an operation, so the ordinary kinds are decided in the loop below, and what the
-- others need is made only when there is one of them.

local function status_of(flags, account)
  local flag = flags[account]
  return flag and sub(flag, 1, 1) or 'A'
end

local function limit_of(flags, account, currency)
  local flag = flags[account]
  return flag and tonumber(match(flag, ' ' .. currency .. '=(%d+)')) or 0
end

-- The first of unknown, closed, frozen that holds for one of the two sides (b is nil where there is one side).
local function side_refusal(flags, known, a, b)
  if not known[a] and byte(a) ~= SYSTEM then return UNKNOWN_ACCOUNT end
  if b and not known[b] and byte(b) ~= SYSTEM then return UNKNOWN_ACCOUNT end
  local status_a, status_b = status_of(flags, a), b and status_of(flags, b)
  if status_a == 'C' or status_b == 'C' then return CLOSED end
  if status_a == 'F' or status_b == 'F' then return FROZEN end
  return nil
end

-- Refund, settle, open_account, set_flags.
local remember_before, flags_new, settled, refunded, decide_other
if ordinary < count then
  remember_before, flags_new, settled, refunded = {}, {}, {}, {}
  function decide_other(i, kind)
    local account, currency = as[i], currencies[i]
    if kind == 's' then
      local entry_seq = ids[i]
      if settled[entry_seq] or not call('ZSCORE', k_open, entry_seq) then return REPEATED end
      settled[entry_seq], effect = true, true
      return APPLIED

    elseif kind == 'r' then
      local entry_seq, idx, decline = match(bs[i], '^(%d+)%.(%d+)%.(%l)$')
      if not entry_seq then return nil end
      local part = entry_seq .. '.' .. idx
      if settled[entry_seq] or refunded[part] then return REPEATED end
      if not call('ZSCORE', k_open, entry_seq) or call('ZSCORE', k_open, part) then return REPEATED end
      local known, amount = balances[currency], amounts[i]
      local full, transit = (known[account] or 0) + amount, (known[TRANSIT] or 0) - amount
      if full > AMOUNT_MAX or transit < -AMOUNT_MAX then return BALANCE_LIMIT end
      known[account], known[TRANSIT] = full, transit
      changed[currency][account], changed[currency][TRANSIT], effect = true, true, true
      refunded[part] = entry_seq
      local field = ids[i]
      if seen[field] then
        seen[field] = decline .. sub(seen[field], 2)
        remember[field] = seen[field]
      elseif seen_before[field] then
        seen_before[field] = decline .. sub(seen_before[field], 2)
        remember_before[field] = seen_before[field]
      end
      return APPLIED

    elseif kind == 'o' then
      local limit = bs[i]
      if balances[currency][account] then
        if limit ~= '-' and tonumber(limit) ~= limit_of(flags, account, currency) then return CONFLICT end
        return REPEATED
      end
      if status_of(flags, account) == 'C' then return CLOSED end
      balances[currency][account], changed[currency][account], effect = 0, true, true
      if limit ~= '-' and tonumber(limit) > 0 then
        flags[account] = (flags[account] or 'A') .. ' ' .. currency .. '=' .. limit
        flags_new[account], flags_exist = flags[account], true
      end
      return APPLIED
    end

    local status = ({freeze = 'F', unfreeze = 'A', close = 'C'})[bs[i]]
    if not status then return nil end
    local known, empty = false, true
    for _, accounts in pairs(balances) do
      local minor = accounts[account]
      if minor then
        known = true
        if minor ~= 0 then empty = false end
      end
    end
    if not known then return UNKNOWN_ACCOUNT end
    local status_now = status_of(flags, account)
    if status_now == status then return REPEATED end
    if status_now == 'C' then return CLOSED end
    if status == 'C' and not empty then return BALANCE_NOT_ZERO end
    flags[account] = status .. sub(flags[account] or '', 2)
    flags_new[account], flags_exist, effect = flags[account], true, true
    return APPLIED
  end
end

local outcomes = {}
local details = {} -- positions of repeated operations that have something remembered
for i = 1, count do
  local kind, outcome = kinds[i], nil
  if kind == 'd' or kind == 't' then
    -- A transfer whose two sides are here, or the debit of one whose receiver is elsewhere.
    local field, body = ids[i], bodies[i]
    local old = seen[field] or seen_before[field]
    if old then
      if sub(old, find(old, ' ', 1, true) + 1) ~= body then
        outcome = CONFLICT
      else
        outcome = REPEATED
        details[#details + 1] = i
      end
    else
      local from, currency, amount = as[i], currencies[i], amounts[i]
      local known, to = balances[currency], kind == 't' and bs[i] or TRANSIT
      if flags_exist or kind == 't' or not known[from] then
        outcome = side_refusal(flags, known, from, kind == 't' and to or nil)
      end
      if not outcome then
        local left, full = (known[from] or 0) - amount, (known[to] or 0) + amount
        if left < 0 and byte(from) ~= SYSTEM and left < -(flags_exist and limit_of(flags, from, currency) or 0) then
          outcome = INSUFFICIENT_FUNDS
        elseif full > AMOUNT_MAX or left < -AMOUNT_MAX then
          outcome = BALANCE_LIMIT
        else
          local marks = changed[currency]
          known[from], known[to], marks[from], marks[to] = left, full, true, true
          outcome = APPLIED
          if kind == 'd' then debited = true end
        end
      end
      local record = outcome .. seq_text .. '.' .. format('%d', i - 1) .. ' ' .. body
      seen[field], remember[field] = record, record
      effect = true
    end
  elseif kind == 'c' then
    local field, idx = ids[i], bs[i]
    local here, before = seen[field], seen_before[field]
    if here and find(here, ' ' .. idx .. '%D') or before and find(before, ' ' .. idx .. '%D') then
      outcome = REPEATED
      details[#details + 1] = i
    else
      local to, currency, amount = as[i], currencies[i], amounts[i]
      local known = balances[currency]
      if flags_exist or not known[to] then outcome = side_refusal(flags, known, to, nil) end
      if not outcome then
        local full, transit = (known[to] or 0) + amount, (known[TRANSIT] or 0) - amount
        if full > AMOUNT_MAX or transit < -AMOUNT_MAX then
          outcome = BALANCE_LIMIT
        else
          local marks = changed[currency]
          known[to], known[TRANSIT], marks[to], marks[TRANSIT] = full, transit, true, true
          outcome = APPLIED
        end
      end
      local record = (here or '') .. ' ' .. idx .. outcome
      seen[field], remember[field] = record, record
      effect = true
    end
  else
    outcome = decide_other(i, kind)
    if not outcome then return {'MALFORMED', 'operation ' .. i} end
  end
  outcomes[i] = outcome
end
local outcomes_text = concat(outcomes)

-- Write -----------------------------------------------------------------------------------------------------------

local function write_pairs(key, values)
  local flat, n = {}, 0
  for name, value in pairs(values) do
    flat[n + 1], flat[n + 2] = name, value
    n = n + 2
  end
  if n > 0 then call('HSET', key, unpack(flat)) end
end

if effect then
  local currencies_new
  for currency, marks in pairs(changed) do
    local known, flat, n = balances[currency], {}, 0
    for account in pairs(marks) do
      flat[n + 1], flat[n + 2] = account, format('%d', known[account]) -- a C long: exact, where tostring is not
      n = n + 2
    end
    if n > 0 then call('HSET', balance_keys[currency], unpack(flat)) end
    if n > 0 and not find(',' .. currencies_known .. ',', ',' .. currency .. ',', 1, true) then
      currencies_known = currencies_known .. (currencies_known == '' and '' or ',') .. currency
      currencies_new = true
    end
  end
  write_pairs(k_seen, remember)
  if decide_other then
    if next(flags_new) then
      write_pairs(k_flags, flags_new)
      call('HSET', k_meta, 'flagged', 1)
    end
    write_pairs(k_seen_before, remember_before)
    for part, entry_seq in pairs(refunded) do call('ZADD', k_open, entry_seq, part) end
    for entry_seq in pairs(settled) do call('ZREMRANGEBYSCORE', k_open, entry_seq, entry_seq) end
  end
  if debited then call('ZADD', k_open, seq_text, seq_text) end

  if not REPLAY then
    call('XADD', k_journal, seq_text .. '-0', 'e', concat({seq_text, nonce_last, nonce, epoch, format('%d', now_ms),
      window_asked, outcomes_text}, ' ') .. '\n' .. operations)
  end
  call('HSET', k_meta, 'seq', seq_text, 'nonce', nonce, 'clock', now_ms)
  if currencies_new then
    local list = {}
    for currency in gmatch(currencies_known, '[^,]+') do list[#list + 1] = currency end
    table.sort(list)
    call('HSET', k_meta, 'currencies', concat(list, ','))
  end
  if window_asked ~= window then
    call('HSET', k_meta, 'window', window_asked, 'window_started', now_ms)
    call('UNLINK', k_seen_dropped)
  elseif seq == 1 then
    call('HSET', k_meta, 'window_started', now_ms)
  end
else
  seq, nonce = seq_last, nonce_last
end

local reply = {'OK', seq, nonce, now_ms, outcomes_text}
local opened = {} -- open entry -> its time
for n = 1, #details do
  local i = details[n]
  local field = ids[i]
  if kinds[i] == 'c' then
    local pattern = ' ' .. bs[i] .. '(%D)'
    local outcome = match(seen[field] or '', pattern) or match(seen_before[field] or '', pattern)
    reply[5 + n] = (i - 1) .. ' ' .. outcome
  else
    local outcome, entry_seq, idx = match(seen[field] or seen_before[field], '^(.)(%d+)%.(%d+) ')
    local opened_ms = '0'
    if kinds[i] == 'd' and call('ZSCORE', k_open, entry_seq) then
      opened_ms = opened[entry_seq]
      if not opened_ms then
        local entry = call('XRANGE', k_journal, entry_seq .. '-0', entry_seq .. '-0')[1]
        opened_ms = entry and match(entry[2][2], '^%S+ %S+ %S+ %S+ (%d+) ') or '1'
        opened[entry_seq] = opened_ms
      end
    end
    reply[5 + n] = (i - 1) .. ' ' .. outcome .. ' ' .. entry_seq .. '.' .. idx .. ' ' .. opened_ms
  end
end
return reply
