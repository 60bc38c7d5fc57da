-- apply: decide a batch of operations on one partition in order, write every effect, append one journal entry.
-- The only script that changes money. Nothing is written before everything is decided; there is no rollback.
--
-- KEYS  1 meta  2 journal  3 open  4 flags  5 seen of the window in force  6 seen of the window before
--       7 seen of the window before that, dropped when the window rotates
--       8… balance hash of each of the currencies
-- ARGV  1 a JSON array of strings: epoch, nonce, issued_ms (oldest operation), window, window_ms, stream_entries_max,
--         issued_age_ms_max; the fingerprints of all transfers, debits and refunds in one, 8 characters each of which
--         6 count; then the field of `seen` of each (wallet_engine/domain/memory.py). A refund has no use for the first
--       2 a JSON array of strings: the six words of each operation (domain/entry.py); goes into the stream as it is
--       replay only: 3 previous nonce  4 recorded time_ms
-- Returns '<seq> <nonce> <time_ms> <outcomes>' and, for each repeated operation, '\n<detail>': seq and nonce of the
--       newest entry, whether or not this batch wrote it; a detail is '<idx> <outcome> <seq>.<idx> <opened_ms>' for
--       transfers and debits, '<idx> <outcome>' for credits; idx counts from 0; opened_ms is the time of that entry
--       while it stands in `open` (1 if its text is not in the stream), 0 afterwards. While it does, a debit's words are
--       compared with those of the entry: the outcome is '!' if they differ and only their fingerprints are equal.
-- Refusals, nothing written: {'STATE', state} {'EPOCH', epoch} {'OWNER', id} {'WINDOW', number} {'FULL', length}
--       {'EXPIRED', now_ms} {'CURRENCIES', list} {'MALFORMED', text}
--
-- REPLAY (a constant put in front by the loader) re-executes a recorded entry while the partition is `recovering`:
-- recorded time and nonce, no owner, no stream. It is another text with another digest, so a service can never call it.
--
-- What costs here, in instructions of the machine: a key or argument of the call 2,000, a field read from a hash 2,300, a
-- string made 700 and 11 for each of its bytes (Redis 7 hashes all of them), a number made text 1,500, a closure 1,500.

--@include lib/outcomes.lua
--@include lib/guard.lua
--@include lib/memory.lua

local AMOUNT_MAX = 9007199254740991
local OPERATIONS_MAX = 1500 -- unpack() fails near 8,000 values; an operation writes two accounts at most
local STREAM_CHECK_ENTRIES = 16 -- the stream's length is looked at every so many entries
local WORDS_EACH = 6
local SETTINGS = 7 -- strings of ARGV[1] before the memory of transactions
local FINGERPRINT_EACH, FINGERPRINT_LENGTH = 8, 6
local OPENED_ENTRIES_MAX = 16 -- entries of the stream held at a time; each may be 150 kB
local TRANSIT = '@transit'
local SYSTEM = 64 -- '@'

local byte, char, find, match, sub, gmatch =
  string.byte, string.char, string.find, string.match, string.sub, string.gmatch
local format, concat, floor = string.format, table.concat, math.floor
local call, unpack = redis.call, unpack

local k_meta, k_journal, k_open, k_flags = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local k_seen, k_seen_before, k_seen_dropped = KEYS[5], KEYS[6], KEYS[7]
local K_BALANCE_FIRST, CURRENCY_AT, CURRENCY_LENGTH = 8, 9, 3 -- balance:USD{tag}
-- One table of strings, made in C: cutting a text into its words by a pattern costs three times as much.
local readable, words = pcall(cjson.decode, ARGV[2])
if not readable then return {'MALFORMED', words} end
local head = cjson.decode(ARGV[1])
local epoch, nonce, window_text = head[1], head[2], head[4]
-- `x + 0` makes a number of a string in half the time of tonumber(), and fails on anything else.
local issued_ms, window_asked, issued_age_ms_max = head[3] + 0, window_text + 0, head[7] + 0

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
  if nonce_last ~= ARGV[3] then return {'MALFORMED', 'entry does not continue ' .. nonce_last} end
  now_ms = ARGV[4] + 0
  if window_asked ~= window and window_asked ~= window + 1 then return {'WINDOW', window} end
else
  local time = call('TIME')
  now_ms = time[1] * 1000 + floor(time[2] / 1000)
  local age_ms = now_ms - issued_ms
  if age_ms > issued_age_ms_max or age_ms < -issued_age_ms_max then return {'EXPIRED', now_ms} end
  if now_ms < clock then now_ms = clock end
  local window_due = window
  if window_started > 0 and now_ms - window_started >= head[5] + 0 then window_due = window + 1 end
  if window_asked ~= window_due then return {'WINDOW', window_due} end
  if seq_last % STREAM_CHECK_ENTRIES == 0 then
    local length = call('XLEN', k_journal)
    if length >= head[6] + 0 then return {'FULL', length} end
  end
end

-- Read ------------------------------------------------------------------------------------------------------------

local count = #words / WORDS_EACH
if count < 1 or count > OPERATIONS_MAX or count % 1 ~= 0 then return {'MALFORMED', 'words ' .. #words} end

-- accounts: of operation i at i; the other side of transfers, in their order, and @transit after the last.
-- fields: what remembers operation i.
-- Both begin as long as they will be: a table that grows is copied at each power of two.
local accounts, fields = {unpack(words, 1, count + 1)}, {unpack(words, 1, count)}
local account_count = count
local remembering = false -- whether the memory of transactions and credits is needed
local memory_count = 0 -- operations so far that ARGV[1] has a fingerprint and a field of
local uncommon, flagging = false, false -- whether one is none of transfer, debit, credit, settle; one is set_flags
local at = 0
for i = 1, count do
  local kind, id, account = words[at + 1], words[at + 2], words[at + 3]
  accounts[i] = account
  if kind == 'd' or kind == 't' or kind == 'r' then
    memory_count = memory_count + 1
    fields[i], remembering = head[SETTINGS + 1 + memory_count] or '', true
    if kind == 't' then
      account_count = account_count + 1
      accounts[account_count] = words[at + 4]
    elseif kind == 'r' then
      uncommon = true
    end
  elseif kind == 'c' then -- remembered with the others of twenty entries, of which the mark says one
    local tens = byte(id, -2)
    fields[i], remembering = tens % 2 == 0 and sub(id, 1, -2) or sub(id, 1, -3) .. char(tens - 1), true
  else
    fields[i] = id
    if kind ~= 's' then uncommon, flagging = true, flagging or kind == 'f' end
  end
  at = at + WORDS_EACH
end
local fingerprints, fingerprint_at = head[SETTINGS + 1], 1
if #head ~= SETTINGS + 1 + memory_count or #fingerprints ~= memory_count * FINGERPRINT_EACH then
  return {'MALFORMED', 'fields ' .. #head}
end
accounts[account_count + 1] = TRANSIT

-- A ledger is the part of one currency. values: what was read, by position in `accounts`; known: account -> minor units
-- where this batch has changed them; written: what HSET is to write, alternating; next: the ledger of the next currency.
local ledgers, ledger_first = {}, nil
for n = K_BALANCE_FIRST, #KEYS do
  local key = KEYS[n]
  local currency = sub(key, CURRENCY_AT, CURRENCY_AT + CURRENCY_LENGTH - 1)
  local values = call('HMGET', key, unpack(accounts, 1, account_count + 1))
  ledger_first = {currency = currency, key = key, values = values, known = {}, written = {}, written_count = 0,
    transit = (values[account_count + 1] or 0) + 0, transit_changed = false, next = ledger_first or false}
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
  local values = call('HMGET', k_flags, unpack(accounts, 1, account_count))
  for i = 1, account_count do flags[accounts[i]] = values[i] or nil end
end

local recalled, recalled_before = nothing, nothing -- by operation: what is remembered of it
if remembering then
  recalled = call('HMGET', k_seen, unpack(fields, 1, count))
  if window_asked > 1 then recalled_before = call('HMGET', k_seen_before, unpack(fields, 1, count)) end
end

-- Decide ----------------------------------------------------------------------------------------------------------

local seq_text = format('%d', seq_last + 1)
local effect = false -- whether anything is to be written
local debited = false -- whether money leaves this partition with this entry
local remembered = {} -- what this batch itself remembers: field -> record
local records, record_count = {}, 0 -- the same as HSET is to write it; of a field written twice the last record stays
local settled, remembered_before, flags_new, refunded -- made when they are needed

-- A closure costs a tenth of an operation, so the common kinds are decided in the loop below, and what the others and
-- the flags need is made only when there is one of them.
local limit_of, side_refusal, decide_other

if flags_exist or uncommon then
  local function status_of(account)
    local flag = flags[account]
    return flag and sub(flag, 1, 1) or 'A'
  end

  function limit_of(account, currency)
    local flag = flags[account]
    return flag and tonumber(match(flag, ' ' .. currency .. '=(%d+)')) or 0
  end

  -- The first of unknown, closed, frozen that holds for one of the two sides (b is nil where there is one side).
  function side_refusal(a, have_a, b, have_b)
    if not have_a and byte(a) ~= SYSTEM then return UNKNOWN_ACCOUNT end
    if b and not have_b and byte(b) ~= SYSTEM then return UNKNOWN_ACCOUNT end
    local status_a, status_b = status_of(a), b and status_of(b)
    if status_a == 'C' or status_b == 'C' then return CLOSED end
    if status_a == 'F' or status_b == 'F' then return FROZEN end
    return nil
  end

  if not flags_exist then flags = {} end
  remembered_before, flags_new, refunded = {}, {}, {}

  local function balance(ledger, i, account)
    local minor = ledger.known[account] or ledger.values[i]
    return minor and minor + 0
  end

  -- Refund, open_account, set_flags. Returns nil for what is none of them.
  function decide_other(i, kind, ledger, account, detail, amount)
    if kind == 'r' then
      local entry_seq, idx, decline = match(detail, '^(%d+)%.(%d+)%.(%l)$')
      local minor = amount + 0
      if not entry_seq or not ledger or account == TRANSIT or minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then
        return nil
      end
      local part = entry_seq .. '.' .. idx
      if settled and settled[entry_seq] or refunded[part] then return REPEATED end
      if not call('ZSCORE', k_open, entry_seq) or call('ZSCORE', k_open, part) then return REPEATED end
      local written, n = ledger.written, ledger.written_count
      local full, transit = (balance(ledger, i, account) or 0) + minor, ledger.transit - minor
      if full > AMOUNT_MAX or transit < -AMOUNT_MAX then return BALANCE_LIMIT end
      ledger.known[account], ledger.transit = full, transit
      written[n + 1], written[n + 2] = account, format('%d', full)
      ledger.written_count, ledger.transit_changed, effect = n + 2, true, true
      refunded[part] = entry_seq
      local field = fields[i]
      local record = remembered[field] or recalled[i]
      if record then
        record = decline .. sub(record, 2)
        remembered[field] = record
        records[record_count + 1], records[record_count + 2], record_count = field, record, record_count + 2
      else
        record = recalled_before[i]
        if record then
          record = decline .. sub(record, 2)
          remembered_before[field] = record
          for other = i, count do -- what later operations are to see of it
            if fields[other] == field then recalled_before[other] = record end
          end
        end
      end
      return APPLIED

    elseif kind == 'o' then
      local limit_ok = detail == '-' or (find(detail, '^%d+$') and tonumber(detail) <= AMOUNT_MAX)
      if not ledger or not limit_ok then return nil end
      local written, n = ledger.written, ledger.written_count
      if balance(ledger, i, account) then
        if detail ~= '-' and tonumber(detail) ~= limit_of(account, ledger.currency) then return CONFLICT end
        return REPEATED
      end
      if status_of(account) == 'C' then return CLOSED end
      ledger.known[account], effect = 0, true
      written[n + 1], written[n + 2], ledger.written_count = account, '0', n + 2
      if detail ~= '-' and tonumber(detail) > 0 then
        flags[account] = (flags[account] or 'A') .. ' ' .. ledger.currency .. '=' .. detail
        flags_new[account], flags_exist = flags[account], true
      end
      return APPLIED
    end

    local status = kind == 'f' and ({freeze = 'F', unfreeze = 'A', close = 'C'})[detail]
    if not status then return nil end
    local held, empty = false, true
    for _, each in pairs(ledgers) do
      local minor_held = balance(each, i, account)
      if minor_held then
        held = true
        if minor_held ~= 0 then empty = false end
      end
    end
    if not held then return UNKNOWN_ACCOUNT end
    local status_now = status_of(account)
    if status_now == status then return REPEATED end
    if status_now == 'C' then return CLOSED end
    if status == 'C' and not empty then return BALANCE_NOT_ZERO end
    flags[account] = status .. sub(flags[account] or '', 2)
    flags_new[account], flags_exist, effect = flags[account], true, true
    return APPLIED
  end
end

local outcomes = {unpack(words, 1, count)}
local repeated, credited -- positions of repeated operations that have something remembered; outcomes of the credits there
local other = count -- position in accounts of a transfer's other side
-- What the records of operations place_first and its followers say of their place, but for the last digit.
local place_first, place, place_seq = -1, nil, nil
local ledger, currency_now = nil, nil
local known, values, written, n, transit, transit_changed = nothing, nothing, nothing, 0, 0, false
at = 0
for i = 1, count do
  local kind, currency = words[at + 1], words[at + 6]
  local outcome
  if currency ~= currency_now then
    if ledger then ledger.written_count, ledger.transit, ledger.transit_changed = n, transit, transit_changed end
    currency_now, ledger = currency, ledgers[currency]
    if ledger then
      known, values, written, n = ledger.known, ledger.values, ledger.written, ledger.written_count
      transit, transit_changed = ledger.transit, ledger.transit_changed
    end
  end
  if kind == 'd' or kind == 't' then
    -- The debit of a transfer whose receiver is elsewhere, or a transfer whose two sides are here.
    local field, fingerprint = fields[i], sub(fingerprints, fingerprint_at, fingerprint_at + FINGERPRINT_LENGTH - 1)
    fingerprint_at = fingerprint_at + FINGERPRINT_EACH
    local to = nil
    if kind == 't' then
      other, to = other + 1, words[at + 4]
    end
    local old = remembered[field] or recalled[i] or recalled_before[i]
    if old then
      if sub(old, 2, FINGERPRINT_LENGTH + 1) ~= fingerprint then
        outcome = CONFLICT
      else
        outcome = REPEATED
        repeated = repeated or {}
        repeated[#repeated + 1] = i
      end
    else
      local from, minor = accounts[i], words[at + 5] + 0
      if not ledger or minor > AMOUNT_MAX or minor < 1 or minor % 1 ~= 0 or from == TRANSIT
        or to and (to == TRANSIT or to == from) then
        return {'MALFORMED', 'operation ' .. i}
      end
      local have, have_to = known[from] or values[i], transit
      if to then have_to = known[to] or values[other] end
      if flags_exist then
        outcome = side_refusal(from, have, to, have_to)
      elseif not have and byte(from) ~= SYSTEM or not have_to and byte(to) ~= SYSTEM then
        outcome = UNKNOWN_ACCOUNT
      end
      if not outcome then
        local left, full = (have or 0) - minor, (have_to or 0) + minor
        if left < 0 and byte(from) ~= SYSTEM and left < -(flags_exist and limit_of(from, currency) or 0) then
          outcome = INSUFFICIENT_FUNDS
        elseif full > AMOUNT_MAX or left < -AMOUNT_MAX then
          outcome = BALANCE_LIMIT
        else
          outcome, known[from] = APPLIED, left
          written[n + 1], written[n + 2] = from, format('%d', left)
          if to then
            known[to] = full
            written[n + 3], written[n + 4], n = to, format('%d', full), n + 4
          else
            n, transit, transit_changed, debited = n + 2, full, true, true
          end
        end
      end
      local digit = (i - 1) % DIGITS
      if i - digit ~= place_first then
        if not place_seq then
          place_seq = ''
          local rest = seq_last + 1
          while rest > 0 do place_seq, rest = char(DIGIT_ZERO + rest % DIGITS) .. place_seq, floor(rest / DIGITS) end
        end
        place_first = i - digit
        place = place_seq .. char(DIGIT_ZERO + (place_first - 1) / DIGITS)
      end
      local record = outcome .. fingerprint .. place .. char(DIGIT_ZERO + digit)
      remembered[field] = record
      records[record_count + 1], records[record_count + 2], record_count = field, record, record_count + 2
    end
  elseif kind == 'c' then
    local field, idx = fields[i], words[at + 4] + 0
    local here, before = remembered[field] or recalled[i], recalled_before[i]
    local tens, ones = byte(words[at + 2], -2, -1)
    local digit = idx % DIGITS
    local mark = char(CREDIT_ZERO + tens % 2 * 10 + ones - 48, DIGIT_ZERO + (idx - digit) / DIGITS, DIGIT_ZERO + digit)
    local marked, found = here, here and find(here, mark, 1, true)
    if not found and before then marked, found = before, find(before, mark, 1, true) end
    if found then
      outcome = REPEATED
      repeated, credited = repeated or {}, credited or {}
      repeated[#repeated + 1], credited[i] = i, sub(marked, found + MARK_LENGTH, found + MARK_LENGTH)
    else
      local to, minor = accounts[i], words[at + 5] + 0
      if not ledger or minor > AMOUNT_MAX or minor < 1 or minor % 1 ~= 0 or to == TRANSIT or idx >= OPERATIONS_MAX then
        return {'MALFORMED', 'operation ' .. i}
      end
      local have = known[to] or values[i]
      if flags_exist then
        outcome = side_refusal(to, have, nil, nil)
      elseif not have and byte(to) ~= SYSTEM then
        outcome = UNKNOWN_ACCOUNT
      end
      if not outcome then
        local full, left = (have or 0) + minor, transit - minor
        if full > AMOUNT_MAX or left < -AMOUNT_MAX then
          outcome = BALANCE_LIMIT
        else
          outcome, known[to], transit, transit_changed = APPLIED, full, left, true
          written[n + 1], written[n + 2], n = to, format('%d', full), n + 2
        end
      end
      local record = here and here .. mark .. outcome or mark .. outcome
      remembered[field] = record
      records[record_count + 1], records[record_count + 2], record_count = field, record, record_count + 2
    end
  elseif kind == 's' then
    local field = fields[i]
    settled = settled or {}
    if settled[field] or not call('ZSCORE', k_open, field) then
      outcome = REPEATED
    else
      settled[field], effect, outcome = true, true, APPLIED
    end
  else
    if ledger then ledger.written_count, ledger.transit, ledger.transit_changed = n, transit, transit_changed end
    if kind == 'r' then fingerprint_at = fingerprint_at + FINGERPRINT_EACH end
    outcome = decide_other(i, kind, ledger, accounts[i], words[at + 4], words[at + 5])
    if ledger then n, transit, transit_changed = ledger.written_count, ledger.transit, ledger.transit_changed end
    if not outcome then return {'MALFORMED', 'operation ' .. i} end
  end
  outcomes[i] = outcome
  at = at + WORDS_EACH
end
if ledger then ledger.written_count, ledger.transit, ledger.transit_changed = n, transit, transit_changed end
local outcomes_text = concat(outcomes)

-- Write -----------------------------------------------------------------------------------------------------------

local clock_text = format('%d', now_ms)
if effect or record_count > 0 then
  local currencies_new
  ledger = ledger_first
  while ledger do
    local written, n, currency = ledger.written, ledger.written_count, ledger.currency
    if ledger.transit_changed then
      written[n + 1], written[n + 2] = TRANSIT, format('%d', ledger.transit) -- a C long: exact, unlike tostring
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
  if record_count > 0 then call('HSET', k_seen, unpack(records, 1, record_count)) end
  if decide_other then
    for account, flag in pairs(flags_new) do call('HSET', k_flags, account, flag) end
    if next(flags_new) then call('HSET', k_meta, 'flagged', 1) end
    for field, record in pairs(remembered_before) do call('HSET', k_seen_before, field, record) end
    for part, entry_seq in pairs(refunded) do call('ZADD', k_open, entry_seq, part) end
  end
  if settled then
    for entry_seq in pairs(settled) do call('ZREMRANGEBYSCORE', k_open, entry_seq, entry_seq) end
  end
  if debited then call('ZADD', k_open, seq_text, seq_text) end

  if not REPLAY then
    call('XADD', k_journal, seq_text .. '-0', 'header', seq_text .. ' ' .. nonce_last .. ' ' .. nonce .. ' ' .. epoch
      .. ' ' .. clock_text .. ' ' .. window_text .. ' ' .. outcomes_text, 'operations', ARGV[2])
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
  elseif seq_last == 0 then
    call('HSET', k_meta, 'window_started', now_ms)
  end
else
  seq_text, nonce = meta[1], nonce_last
end

local reply = seq_text .. ' ' .. nonce .. ' ' .. clock_text .. ' ' .. outcomes_text
if not repeated then return reply end

--@include lib/places.lua

local details = {reply}
local opened, opened_count = {}, 0 -- open entry -> its header, operations, where these begin; false if not in the stream
for n = 1, #repeated do
  local i = repeated[n]
  local field, at = fields[i], WORDS_EACH * (i - 1)
  local kind = words[at + 1]
  if kind == 'c' then
    details[n + 1] = (i - 1) .. ' ' .. credited[i]
  else
    local record = remembered[field] or recalled[i] or recalled_before[i]
    local outcome, opened_ms = sub(record, 1, 1), '0'
    local entry_seq, idx = place_of(record)
    if kind == 'd' and call('ZSCORE', k_open, entry_seq) then
      local entry = opened[entry_seq]
      if entry == nil then
        if opened_count == OPENED_ENTRIES_MAX then opened, opened_count = {}, 0 end
        entry = call('XRANGE', k_journal, entry_seq .. '-0', entry_seq .. '-0')[1]
        entry = entry and {header = entry[2][2], operations = entry[2][4], starts = {2}} or false
        opened[entry_seq], opened_count = entry, opened_count + 1
      end
      if not entry then
        opened_ms = '1'
      elseif operation_of(entry.operations, entry.starts, idx) == '"' .. concat(words, '","', at + 1, at + WORDS_EACH) .. '"' then
        opened_ms = match(entry.header, '^%S+ %S+ %S+ %S+ (%d+) ')
      else
        outcome = CONFLICT
      end
    end
    details[n + 1] = (i - 1) .. ' ' .. outcome .. ' ' .. entry_seq .. '.' .. idx .. ' ' .. opened_ms
  end
end
return concat(details, '\n')
