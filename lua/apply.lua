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
local call, unpack = redis.call, unpack

local k_meta, k_journal, k_open, k_flags = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local k_seen, k_seen_before, k_seen_dropped = KEYS[5], KEYS[6], KEYS[7]
local K_BALANCE_FIRST = 8
-- `x + 0` makes a number of a string in half the time of tonumber(), and fails on anything else.
local epoch, nonce, issued_ms, window_asked = ARGV[1], ARGV[2], ARGV[3] + 0, ARGV[4] + 0
local window_ms, currencies_asked, count_asked = ARGV[5] + 0, ARGV[6], ARGV[7] + 0
local operations, issued_age_ms_max = ARGV[8], ARGV[10] + 0

-- Guards ----------------------------------------------------------------------------------------------------------

local meta = call('HMGET', k_meta, 'seq', 'nonce', 'epoch', 'owner', 'state', 'clock', 'window', 'window_started',
  'currencies', 'flagged')
if REPLAY then
  if meta[5] ~= 'recovering' then return {'STATE', meta[5] or 'absent'} end
else
  local refused = refusal(meta[3], epoch, meta[5], meta[4])
  if refused then return refused end
end
local seq_last, nonce_last, clock = meta[1] + 0, meta[2], meta[6] + 0
local window, window_started, currencies_known = meta[7] + 0, meta[8] + 0, meta[9]
local flags_exist = meta[10] == '1'

local now_ms
if REPLAY then
  if nonce_last ~= ARGV[11] then return {'MALFORMED', 'entry does not continue ' .. nonce_last} end
  now_ms = ARGV[12] + 0
  if window_asked ~= window and window_asked ~= window + 1 then return {'WINDOW', window} end
else
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
    if length >= ARGV[9] + 0 then return {'FULL', length} end
  end
end

-- Read ------------------------------------------------------------------------------------------------------------

-- One string per field of an operation, in arrays by its number; hash tables only for what later operations of the
-- batch may see changed. Building a table costs as much as deciding an operation.

-- A table made with room: one that grows is copied at each power of two, and one with room for 32 costs as much
-- as half a redis.call.
local function room()
  if count_asked <= 6 then return {nil, nil, nil, nil, nil, nil, nil, nil} end
  return {nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil,
    nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}
end

-- A ledger is the part of one currency. known: account -> minor units; written: what HSET is to write, alternating;
-- next: the ledger of the next currency.
local ledgers, ledger_first, currency_count = {}, nil, 0
for currency in gmatch(currencies_asked, '[^,]+') do
  ledger_first = {currency = currency, key = KEYS[K_BALANCE_FIRST + currency_count], known = {}, written = room(),
    written_count = 0, transit_changed = false, next = ledger_first or false}
  ledgers[currency] = ledger_first
  currency_count = currency_count + 1
end

-- accounts: of operation i at i; the other side of transfers, in their order, and @transit after the last. details:
-- what an operation is compared or marked with: the body of a debit or transfer, the mark of a credit, the fourth
-- field of any other.
local kinds, ids, accounts, amounts, details = room(), room(), room(), room(), room()
local currencies = currency_count > 1 and {} -- of operation i; a batch of one currency needs no list
local account_count = count_asked
local uncommon = 0 -- how many are neither transfer, debit, credit nor settle
local remembering = false -- whether the memory of transactions and credits is needed
local count, length = 0, 0 -- length: what the operations take of the text, which holds nothing else
local ledger, currency_now
for kind, id, a, body, b, amount, currency in gmatch(operations, '(%l) (%S+) (%S+) ((%S+) (%d+) (%S+))\n') do
  count = count + 1
  length = length + #id + #a + #body + 5
  kinds[count], accounts[count], details[count] = kind, a, b
  if currency ~= currency_now then currency_now, ledger = currency, ledgers[currency] end
  if currencies then currencies[count] = currency end
  if kind == 'd' or kind == 'c' or kind == 't' or kind == 'r' then
    amount = amount + 0
    if not ledger or amount > AMOUNT_MAX or amount < 1 or a == TRANSIT or (kind == 't' and a == b) then
      return {'MALFORMED', 'operation ' .. count}
    end
    amounts[count], remembering = amount, true
    if kind == 'c' then -- remembered with the others of ten entries: the last digit of <p>.<seq> is in the mark
      ids[count], details[count] = sub(id, 1, -2), ' ' .. sub(id, -1) .. ':' .. b
    else
      ids[count] = a .. ' ' .. id -- the field of its memory
      if kind == 'r' then
        uncommon = uncommon + 1
      else
        details[count] = body
        if kind == 't' then
          account_count = account_count + 1
          accounts[account_count] = b
        end
      end
    end
  elseif kind == 's' then
    ids[count] = id
  elseif kind == 'o' or kind == 'f' then
    uncommon = uncommon + 1
    if kind == 'o' then
      local limit_ok = b == '-' or (find(b, '^%d+$') and tonumber(b) <= AMOUNT_MAX)
      if not ledger or not limit_ok then return {'MALFORMED', 'operation ' .. count} end
    else
      for listed in gmatch(currencies_known, '[^,]+') do
        if not ledgers[listed] then return {'CURRENCIES', currencies_known} end
      end
    end
    ids[count] = id
  else
    return {'MALFORMED', 'operation ' .. count}
  end
end
if count ~= count_asked or length ~= #operations or count > OPERATIONS_MAX or count == 0 then
  return {'MALFORMED', 'count ' .. count}
end
accounts[account_count + 1] = TRANSIT

ledger = ledger_first
while ledger do
  local values, known = call('HMGET', ledger.key, unpack(accounts, 1, account_count + 1)), ledger.known
  for i = 1, account_count + 1 do
    local value = values[i]
    if value then known[accounts[i]] = value + 0 end
  end
  ledger = ledger.next
end

local nothing = {}
local flags = nothing
if flags_exist then
  flags = {}
  local values = call('HMGET', k_flags, unpack(accounts, 1, account_count))
  for i = 1, account_count do flags[accounts[i]] = values[i] or nil end
end

local recalled, recalled_before = nothing, nothing -- by operation: what is remembered of it
if remembering then
  recalled = call('HMGET', k_seen, unpack(ids, 1, count))
  if window_asked > 1 then recalled_before = call('HMGET', k_seen_before, unpack(ids, 1, count)) end
end

-- Decide ----------------------------------------------------------------------------------------------------------

local seq = seq_last + 1
local seq_text = format('%d', seq)
local effect = false -- whether anything is to be written
local debited = false -- whether money leaves this partition with this entry
local remembered = {} -- what this batch itself remembers: field -> record
local settled, decide_other, remembered_before, flags_new, refunded -- made when they are needed

-- A closure costs Redis as much as an operation, so the common kinds are decided in the loop below, and what the
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

-- Refund, open_account, set_flags.
if uncommon > 0 then
  remembered_before, flags_new, refunded = {}, {}, {}
  if not flags_exist then flags = {} end
  function decide_other(i, kind, ledger)
    local account = accounts[i]
    if kind == 'r' then
      local entry_seq, idx, decline = match(details[i], '^(%d+)%.(%d+)%.(%l)$')
      if not entry_seq then return nil end
      local part = entry_seq .. '.' .. idx
      if settled and settled[entry_seq] or refunded[part] then return REPEATED end
      if not call('ZSCORE', k_open, entry_seq) or call('ZSCORE', k_open, part) then return REPEATED end
      local known, written, n, amount = ledger.known, ledger.written, ledger.written_count, amounts[i]
      local full, transit = (known[account] or 0) + amount, (known[TRANSIT] or 0) - amount
      if full > AMOUNT_MAX or transit < -AMOUNT_MAX then return BALANCE_LIMIT end
      known[account], known[TRANSIT] = full, transit
      written[n + 1], written[n + 2] = account, format('%d', full)
      ledger.written_count, ledger.transit_changed, effect = n + 2, true, true
      refunded[part] = entry_seq
      local field = ids[i]
      local record = remembered[field] or recalled[i]
      if record then
        record = decline .. sub(record, 2)
        remembered[field] = record
      else
        record = remembered_before[field] or recalled_before[i]
        if record then remembered_before[field] = decline .. sub(record, 2) end
      end
      return APPLIED

    elseif kind == 'o' then
      local known, written, n, limit = ledger.known, ledger.written, ledger.written_count, details[i]
      if known[account] then
        if limit ~= '-' and tonumber(limit) ~= limit_of(flags, account, ledger.currency) then return CONFLICT end
        return REPEATED
      end
      if status_of(flags, account) == 'C' then return CLOSED end
      known[account], effect = 0, true
      written[n + 1], written[n + 2], ledger.written_count = account, '0', n + 2
      if limit ~= '-' and tonumber(limit) > 0 then
        flags[account] = (flags[account] or 'A') .. ' ' .. ledger.currency .. '=' .. limit
        flags_new[account], flags_exist = flags[account], true
      end
      return APPLIED
    end

    local status = ({freeze = 'F', unfreeze = 'A', close = 'C'})[details[i]]
    if not status then return nil end
    local held, empty = false, true
    for _, each in pairs(ledgers) do
      local minor = each.known[account]
      if minor then
        held = true
        if minor ~= 0 then empty = false end
      end
    end
    if not held then return UNKNOWN_ACCOUNT end
    local status_now = status_of(flags, account)
    if status_now == status then return REPEATED end
    if status_now == 'C' then return CLOSED end
    if status == 'C' and not empty then return BALANCE_NOT_ZERO end
    flags[account] = status .. sub(flags[account] or '', 2)
    flags_new[account], flags_exist, effect = flags[account], true, true
    return APPLIED
  end
end

local outcomes = room()
local repeated -- positions of repeated operations that have something remembered
local outcome, known, written
local other = count_asked -- position in accounts of a transfer's other side
ledger, currency_now = ledger_first, currencies and '' or currencies_asked
known, written = ledger and ledger.known, ledger and ledger.written
for i = 1, count do
  local kind, field = kinds[i], ids[i]
  if currencies and currencies[i] ~= currency_now then
    currency_now = currencies[i]
    ledger = ledgers[currency_now]
    known, written = ledger and ledger.known, ledger and ledger.written
  end
  outcome = nil
  if kind == 'd' or kind == 't' then
    -- The debit of a transfer whose receiver is elsewhere, or a transfer whose two sides are here.
    local body, old = details[i], remembered[field] or recalled[i]
    local to = TRANSIT
    if kind == 't' then
      other = other + 1
      to = accounts[other]
    end
    if not old then old = remembered_before and remembered_before[field] or recalled_before[i] end
    if old then
      if sub(old, find(old, ' ', 1, true) + 1) ~= body then
        outcome = CONFLICT
      else
        outcome = REPEATED
        repeated = repeated or {}
        repeated[#repeated + 1] = i
      end
    else
      local from, amount = accounts[i], amounts[i]
      local have, have_to = known[from], known[to]
      if flags_exist or not have or (kind == 't' and not have_to) then
        outcome = side_refusal(flags, known, from, kind == 't' and to or nil)
      end
      if not outcome then
        local left, full = (have or 0) - amount, (have_to or 0) + amount
        if left < 0 and byte(from) ~= SYSTEM and left < -(flags_exist and limit_of(flags, from, currency_now) or 0) then
          outcome = INSUFFICIENT_FUNDS
        elseif full > AMOUNT_MAX or left < -AMOUNT_MAX then
          outcome = BALANCE_LIMIT
        else
          known[from], known[to], outcome = left, full, APPLIED
          local n = ledger.written_count
          written[n + 1], written[n + 2] = from, format('%d', left)
          if kind == 'd' then
            ledger.written_count, ledger.transit_changed, debited = n + 2, true, true
          else
            written[n + 3], written[n + 4] = to, format('%d', full)
            ledger.written_count = n + 4
          end
        end
      end
      local record = outcome .. seq_text .. '.' .. format('%d', i - 1) .. ' ' .. body
      remembered[field] = record
    end
  elseif kind == 'c' then
    local mark, here, before = details[i], remembered[field] or recalled[i], recalled_before[i]
    if here and find(here, mark .. '%D') or before and find(before, mark .. '%D') then
      outcome = REPEATED
      repeated = repeated or {}
      repeated[#repeated + 1] = i
    else
      local to, amount = accounts[i], amounts[i]
      local have = known[to]
      if flags_exist or not have then outcome = side_refusal(flags, known, to, nil) end
      if not outcome then
        local full, transit = (have or 0) + amount, (known[TRANSIT] or 0) - amount
        if full > AMOUNT_MAX or transit < -AMOUNT_MAX then
          outcome = BALANCE_LIMIT
        else
          known[to], known[TRANSIT], outcome = full, transit, APPLIED
          local n = ledger.written_count
          written[n + 1], written[n + 2] = to, format('%d', full)
          ledger.written_count, ledger.transit_changed = n + 2, true
        end
      end
      local record = here and here .. mark .. outcome or mark .. outcome
      remembered[field] = record
    end
  elseif kind == 's' then
    settled = settled or {}
    if settled[field] or not call('ZSCORE', k_open, field) then
      outcome = REPEATED
    else
      settled[field], effect, outcome = true, true, APPLIED
    end
  else
    outcome = decide_other(i, kind, ledger)
    if not outcome then return {'MALFORMED', 'operation ' .. i} end
  end
  outcomes[i] = outcome
end
local outcomes_text = concat(outcomes)

-- Write -----------------------------------------------------------------------------------------------------------

local function write_pairs(key, values)
  local flat, n = room(), 0
  for name, value in pairs(values) do
    flat[n + 1], flat[n + 2] = name, value
    n = n + 2
  end
  if n > 0 then call('HSET', key, unpack(flat, 1, n)) end
end

if effect or next(remembered) then
  local currencies_new
  ledger = ledger_first
  while ledger do
    local written, n, currency = ledger.written, ledger.written_count, ledger.currency
    if ledger.transit_changed then
      written[n + 1], written[n + 2] = TRANSIT, format('%d', ledger.known[TRANSIT]) -- a C long: exact, unlike tostring
      n = n + 2
    end
    if n > 0 then
      call('HSET', ledger.key, unpack(written, 1, n)) -- of an account written twice the last value stays
      if currencies_known ~= currency and not find(',' .. currencies_known .. ',', ',' .. currency .. ',', 1, true) then
        currencies_known = currencies_known .. (currencies_known == '' and '' or ',') .. currency
        currencies_new = true
      end
    end
    ledger = ledger.next
  end
  write_pairs(k_seen, remembered) -- a field once, however many credits of this batch it holds
  if decide_other then
    if next(flags_new) then
      write_pairs(k_flags, flags_new)
      call('HSET', k_meta, 'flagged', 1)
    end
    write_pairs(k_seen_before, remembered_before)
    for part, entry_seq in pairs(refunded) do call('ZADD', k_open, entry_seq, part) end
  end
  if settled then
    for entry_seq in pairs(settled) do call('ZREMRANGEBYSCORE', k_open, entry_seq, entry_seq) end
  end
  if debited then call('ZADD', k_open, seq_text, seq_text) end

  local clock_text = format('%d', now_ms)
  if not REPLAY then
    call('XADD', k_journal, seq_text .. '-0', 'e', seq_text .. ' ' .. nonce_last .. ' ' .. nonce .. ' ' .. epoch .. ' '
      .. clock_text .. ' ' .. ARGV[4] .. ' ' .. outcomes_text .. '\n' .. operations)
  end
  call('HSET', k_meta, 'seq', seq_text, 'nonce', nonce, 'clock', clock_text)
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
local opened = repeated and {} -- open entry -> its time
for n = 1, repeated and #repeated or 0 do
  local i = repeated[n]
  local field = ids[i]
  if kinds[i] == 'c' then
    local pattern = details[i] .. '(%D)'
    local outcome = match(remembered[field] or recalled[i] or '', pattern) or match(recalled_before[i] or '', pattern)
    reply[5 + n] = (i - 1) .. ' ' .. outcome
  else
    local record = remembered[field] or recalled[i]
    if not record then record = remembered_before and remembered_before[field] or recalled_before[i] end
    local outcome, entry_seq, idx = match(record, '^(.)(%d+)%.(%d+) ')
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
