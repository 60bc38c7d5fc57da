-- apply: decide a batch of operations on one partition in order, write every effect, append one journal entry.
-- The only script that changes money. Nothing is written before everything is decided; there is no rollback.
--
-- KEYS  1 meta  2 journal  3 open  4 flags  5 seen of the window in force  6 seen of the window before
--       7 seen of the window before that, dropped when the window rotates
--       8… balance hash of each of the currencies; behind them, where an operation needs them (`extended` in
--       wallet_engine/domain/kinds.py): hold, due, group, returned, then held and pending of each of these currencies
-- ARGV  1 '<epoch> <nonce> <issued_ms> <window> <window_ms> <stream_entries_max> <issued_age_ms_max> <record ends>':
--         issued_ms is that of the oldest operation; the record of a transfer or debit ends in 8 characters that are given
--         here, fingerprint and idx (wallet_engine/domain/memory.py)
--       2 the operations in columns (wallet_engine/domain/columns.py); goes into the stream as it is
--       replay only: 3 previous nonce  4 recorded time_ms  5 recorded outcomes  6 rules of the entry  7 recorded seconds
--       that had passed of the window, or empty
-- Returns the header of the entry as it stands in the stream, '<seq> <previous nonce> <nonce> <epoch> <time_ms>
--       <window>.<seconds> <outcomes> <rules>' (wallet_engine/domain/entry.py), and, for each repeated operation, '\n<detail>'. A batch that
--       wrote nothing has seq and nonce of the newest entry there; a detail is '<idx> <outcome> <seq>.<idx> <opened_ms>' for
--       transfers and debits, '<idx> <outcome>' for credits; idx counts from 0; opened_ms is the time of that entry
--       while it stands in `open` (1 if its text is not in the stream), 0 afterwards. While it does, a debit's words are
--       compared with those of the entry: the outcome is '!' if they differ and only their fingerprints are equal, and '?'
--       if this call has read enough of such entries already: the repeat is to be asked again.
-- Refusals, nothing written: {'STATE', state} {'EPOCH', epoch} {'OWNER', id} {'WINDOW', number} {'FULL', entries}
--       {'EXPIRED', now_ms} {'CURRENCIES', list} {'MALFORMED', text}; of a replay {'DIFFERS', outcomes} when the entry does
--       not come out as recorded
--
-- Where an account has a most that it may have, meta.flagged is 2, and the plain text, which does not look at that, refuses:
-- {'LIMITS', '2'}. The text for such partitions has the lines behind `--@limits`, and gets the keys of holds.
--
-- REPLAY (a constant put in front by the loader) re-executes a recorded entry while the partition is `recovering`:
-- recorded time, nonce and rules, no owner, no stream. It is another text with another digest, so a service can never
-- call it.
--
-- What costs here, in instructions of the machine: a key or argument of the call 2,000, a field read from a hash 2,300, a
-- string made 700 and 11 for each of its bytes (Redis 7 hashes all of them), a number made text 1,500, a closure 1,500.

--@include lib/kinds.lua
--@include lib/outcomes.lua
--@include lib/guard.lua
--@include lib/memory.lua
--@include lib/pinned.lua

local AMOUNT_MAX = 9007199254740991
local OPERATIONS_MAX = 1500 -- unpack() fails near 8,000 values; an operation writes two accounts at most
local STRIPE_LIMB = AMOUNT_MAX + 1 -- what one unit in '<account>+' stands for
local RULES = ' 2' -- which rules decide, as the header ends (wallet_engine/domain/entry.py)
local STREAM_CHECK_ENTRIES = 16 -- the stream's length is looked at every so many entries
local ENDING_ENTRIES_MAX = 20000 -- so many above its limit are for what ends begun work: credits, refunds and settles
local OPENED_BYTES_MAX = 150000 -- entries of the stream are read up to so much, and the one that passes it: half a millisecond
local LOOK_AGAIN = '?' -- of a detail, as in wallet_engine/engine/batch.py
local FLAGS_MAX = 20000 -- operations times currencies, where flags are read: they may name a limit in each
local MANY = 100 -- so many operations are looked at for runs of one field
local LONG = 400 -- bytes of a record of credits; what this batch adds to a longer one is put together first
local TRANSIT = '@transit'
local SYSTEM, BALANCE = 64, 98 -- '@', 'b': how a system account and the key of a balance begin

local byte, find, match, sub, gmatch = string.byte, string.find, string.match, string.sub, string.gmatch
local format, concat, floor = string.format, table.concat, math.floor
local call, unpack = redis.call, unpack

local k_meta, k_journal, k_open, k_flags = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local k_seen, k_seen_before, k_seen_dropped = KEYS[5], KEYS[6], KEYS[7]
local K_BALANCE_FIRST, CURRENCY_AT, CURRENCY_LENGTH = 8, 9, 3 -- balance:USD{tag}
local readable, columns = pcall(cjson.decode, ARGV[2])
if not readable then return {'MALFORMED', columns} end
local head = ARGV[1]
local epoch, nonce, issued_text, window_text, window_ms_text, entries_max_text, age_ms_max_text, record_end_at =
  match(head, '^(%d+) (%x+) (%d+) (%d+) (%d+) (%d+) (%d+) ()')
if not epoch then return {'MALFORMED', head} end
-- `x + 0` makes a number of a string in half the time of tonumber(), and fails on anything else.
local issued_ms, window_asked, issued_age_ms_max = issued_text + 0, window_text + 0, age_ms_max_text + 0

-- Guards ----------------------------------------------------------------------------------------------------------

local meta = call('HMGET', k_meta, 'seq', 'nonce', 'epoch', 'owner', 'state', 'clock', 'window', 'witnessed_s',
  'currencies', 'flagged')
if REPLAY then
  if meta[5] ~= 'recovering' then return {'STATE', meta[5] or 'absent'} end
else
  local refused = refusal(meta[3], epoch, meta[5], meta[4])
  if refused then return refused end
end
local seq_last, nonce_last, clock = meta[1] + 0, meta[2], meta[6] + 0
local window, witnessed_s, currencies_known = meta[7] + 0, meta[8] or '0', meta[9]
local flags_exist = meta[10]
--@plain if flags_exist == '2' then return {'LIMITS', '2'} end
--@limits local limited = flags_exist == '2' -- whether an account here has a most that it may have

local now_ms
local recorded, rules_before = nil, false -- of a replay: outcomes; whether rules 1 decided
if REPLAY then
  recorded, rules_before = ARGV[5], ARGV[6] == '1'
  RULES = rules_before and '' or ' ' .. ARGV[6]
  if nonce_last ~= ARGV[3] then return {'MALFORMED', 'entry does not continue ' .. nonce_last} end
  now_ms = ARGV[4] + 0
  witnessed_s = ARGV[7] -- empty in entries of before it was counted
  if window_asked ~= window and window_asked ~= window + 1 then return {'WINDOW', window} end
else
  local time = call('TIME')
  now_ms = time[1] * 1000 + floor(time[2] / 1000)
  local age_ms = now_ms - issued_ms
  if age_ms > issued_age_ms_max or age_ms < -issued_age_ms_max then return {'EXPIRED', now_ms} end
  if now_ms < clock then now_ms = clock end
  local window_due = window
  -- Seconds that a monotonic clock has seen (witness.lua): TIME may step.
  if witnessed_s * 1000 >= window_ms_text + 0 and seq_last > 0 then window_due, witnessed_s = window + 1, '0' end
  if window_asked ~= window_due then return {'WINDOW', window_due} end
  if seq_last % STREAM_CHECK_ENTRIES == 0 then
    local entries, entries_max = call('XLEN', k_journal), entries_max_text + 0
    if entries >= entries_max then
      entries = entries - call('ZCARD', k_open) -- open entries wait for their receivers, the others for the journal
      if not find(columns[1], '[^bcgjlrsuwy]') then entries_max = entries_max + ENDING_ENTRIES_MAX end
      if entries >= entries_max then return {'FULL', entries} end
    end
  end
end

-- Read ------------------------------------------------------------------------------------------------------------

-- Operation i is kinds[i], columns[FIELD + i], columns[ACCOUNT + i] and columns[AMOUNT + i]; behind the accounts stand the
-- receivers of transfers and @transit, behind the amounts the details. Tables of their own would cost more than this adding.
local kinds_text, currencies, account_count = columns[1], columns[2], columns[4] - 1
local count = #kinds_text
local FIELD, ACCOUNT, AMOUNT = 4, 4 + count, 5 + count + account_count
local last, notes = #columns, nil -- notes: idx, as text -> what was noted with the operation
if type(columns[last]) == 'table' then last, notes = last - 1, columns[last].notes end
if count < 1 or count > OPERATIONS_MAX or account_count < count or columns[AMOUNT] ~= TRANSIT
  or last < AMOUNT + count then
  return {'MALFORMED', 'columns of ' .. count}
end
if flags_exist and not REPLAY and count * (#currencies_known + 1) > FLAGS_MAX * (CURRENCY_LENGTH + 1) and count > 1 then
  return {'CURRENCIES', currencies_known} -- which says how many operations a call may have
end
local kinds = {byte(kinds_text, 1, count)}
local currency_each = type(currencies) == 'table' and currencies
local remembering = find(kinds_text, '[^sofn]') -- whether the memory of transactions and credits is needed
local uncommon = find(kinds_text, '[^dtcs]')
local flagging = uncommon and find(kinds_text, '[^dtcsornmpgybw]') -- whether every currency of the partition is needed

-- A ledger is the part of one currency. values: what was read, by position among the accounts; known: account -> minor units
-- where this batch has changed them; written: what HSET is to write, alternating; next: the ledger of the next currency.
local ledgers, ledger_first = {}, nil
local K_EXTENDED = K_BALANCE_FIRST -- the first key behind the balances
local values_in -- what is read of one currency, where there are several
if KEYS[K_BALANCE_FIRST + 1] and byte(KEYS[K_BALANCE_FIRST + 1]) == BALANCE then
--@include lib/several.lua
end
while KEYS[K_EXTENDED] and byte(KEYS[K_EXTENDED]) == BALANCE do
  local key = KEYS[K_EXTENDED]
  K_EXTENDED = K_EXTENDED + 1
  local currency = sub(key, CURRENCY_AT, CURRENCY_AT + CURRENCY_LENGTH - 1)
  local values = values_in and values_in(key, currency) or call('HMGET', key, unpack(columns, ACCOUNT + 1, AMOUNT))
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
  local values = call('HMGET', k_flags, unpack(columns, ACCOUNT + 1, AMOUNT - 1))
  for i = 1, account_count do flags[columns[ACCOUNT + i]] = values[i] or nil end
end

local recalled, recalled_before = nothing, nothing -- by operation: what is remembered of it
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

-- Decide ----------------------------------------------------------------------------------------------------------

local seq_text = format('%d', seq_last + 1)
local effect = false -- whether anything is to be written
local debited = false -- whether money leaves this partition with this entry
local remembered = {} -- what this batch itself remembers: field -> record, of a long one only what is added
local lengthened -- the first operations that have added to a long record
local records, record_count = {}, 0 -- the same as HSET is to write it; of a field written twice the last record stays
local settled, remembered_before, flags_new, refunded -- made when they are needed
local seq_digits, record_begin -- as all records of this entry have its seq; of an operation that is applied, as they begin
local repeated -- positions of repeated operations that have something remembered
local holds, holds_changed, counts_changed -- field -> hold, false if there is none; which are to be written; of accounts
-- Only accounts have a limit. A system account's part that leaves the bounds of a number is carried: of its balance
-- here, <account> holds what is less than STRIPE_LIMB, <account>+ how many of these there are. {key, account, how many}
local carries

-- A closure costs a tenth of an operation, so the common kinds are decided in the loop below, and what the others and
-- the flags need is made only when there is one of them.
--@limits local over_limit
local limit_of, side_refusal, write_holds, write_groups
local said -- by position, what is told of operations on groups; made when they are needed
-- By kind: decides operation i of it. Returns its outcome; nil for what is malformed, or nil and another refusal.
local rules

if flags_exist or uncommon then
--@include lib/accounts.lua
  if not flags_exist then flags = {} end
  rules, remembered_before, flags_new, refunded = {}, {}, {}, {}
  if uncommon then
--@include lib/posting.lua
--@include rules/refund.lua
--@include rules/open_account.lua
--@limits --@include rules/set_limits.lua
--@include rules/set_flags.lua
--@include rules/probe.lua
    if KEYS[K_EXTENDED] then
      holds, holds_changed, counts_changed = {}, {}, {}
--@include lib/holds.lua
--@include rules/hold.lua
--@include rules/capture.lua
--@include rules/capture_end.lua
--@include rules/void.lua
      -- A function has 200 local names at most, and 60 of those around it.
      if find(kinds_text, '[xzj]') then
        local function make_returns()
--@include lib/returns.lua
--@include rules/return.lua
        end
        make_returns()
      end
      if find(kinds_text, '[mpgybw]') then
        local function make_groups()
--@include lib/groups.lua
--@include rules/group.lua
--@include rules/group_part.lua
        end
        make_groups()
      end
    end
  end
end

local outcomes = {unpack(columns, FIELD + 1, ACCOUNT)}
local credited -- by position, outcomes of repeated credits
local other = count -- position among the accounts of a transfer's other side
local detail_at = AMOUNT + count -- where the last operation that has a detail has it
local ledger, currency = nil, nil
local known, values, written, n, transit, transit_changed = nothing, nothing, nothing, 0, 0, false
for i = 1, count do
  local kind = kinds[i]
  local outcome
  if i == 1 or currency_each and currency_each[i] ~= currency then
    if ledger then ledger.written_count, ledger.transit, ledger.transit_changed = n, transit, transit_changed end
    currency = currency_each and currency_each[i] or currencies
    ledger = ledgers[currency]
    if ledger then
      known, values, written, n = ledger.known, ledger.values, ledger.written, ledger.written_count
      transit, transit_changed = ledger.transit, ledger.transit_changed
    end
  end
  if kind == DEBIT or kind == TRANSFER then
    -- The debit of a transfer whose receiver is elsewhere, or a transfer whose two sides are here.
    local field, record_end = columns[FIELD + i], sub(head, record_end_at, record_end_at + RECORD_END_LENGTH - 1)
    record_end_at = record_end_at + RECORD_END_LENGTH
    local to = nil
    if kind == TRANSFER then
      other = other + 1
      to = columns[ACCOUNT + other]
    end
    local old = remembered[field] or recalled[i] or recalled_before[i]
    if old then
      if sub(old, -RECORD_END_LENGTH, -3) ~= sub(record_end, 1, FINGERPRINT_LENGTH) then
        outcome = CONFLICT
      else
        outcome = REPEATED
        repeated = repeated or {}
        repeated[#repeated + 1] = i
      end
    elseif rules_before and find('=!', sub(recorded, i, i), 1, true) then
      outcome = sub(recorded, i, i) -- another payer of the id, whose name has the same CRC-32, was answered
    else
      local from, minor = columns[ACCOUNT + i], columns[AMOUNT + i]
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
        elseif notes and notes[i - 1 .. ''] and left < (notes[i - 1 .. ''].min or left) and byte(from) ~= SYSTEM then
          outcome = INSUFFICIENT_FUNDS -- the caller wants more to be left
        elseif full > AMOUNT_MAX and (rules_before or to and byte(to) ~= SYSTEM) or rules_before and left < -AMOUNT_MAX then
          outcome = BALANCE_LIMIT
--@limits         elseif to and flags_exist and over_limit(ledger, to, full) then
--@limits           outcome = BALANCE_LIMIT
        else
          if full > AMOUNT_MAX then
            full, carries = (have_to or 0) - STRIPE_LIMB + minor, carries or {}
            carries[#carries + 1] = {ledger.key, to or TRANSIT, 1}
          end
          if left < -AMOUNT_MAX then
            left, carries = (have or 0) + STRIPE_LIMB - minor, carries or {}
            carries[#carries + 1] = {ledger.key, from, -1}
          end
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
      if not record_begin then
--@include lib/seq_digits.lua
        record_begin = APPLIED .. seq_digits
      end
      local record = outcome == APPLIED and record_begin .. record_end or outcome .. seq_digits .. record_end
      remembered[field] = record
      records[record_count + 1], records[record_count + 2], record_count = field, record, record_count + 2
    end
  elseif kind == CREDIT then
    detail_at = detail_at + 1
    local field, mark = columns[FIELD + i], columns[detail_at]
    local here, stored, before = remembered[field], recalled[i], recalled_before[i]
    local long, first = stored and #stored > LONG, not here
    if first and not long then here = stored end
    local marked, found = here, here and find(here, mark, 1, true)
    if not found and long then marked, found = stored, find(stored, mark, 1, true) end
    if not found and before then marked, found = before, find(before, mark, 1, true) end
    if found then
      outcome = REPEATED
      repeated, credited = repeated or {}, credited or {}
      repeated[#repeated + 1], credited[i] = i, sub(marked, found + MARK_LENGTH, found + MARK_LENGTH)
    else
      local to, minor = columns[ACCOUNT + i], columns[AMOUNT + i]
      if not mark or not ledger or minor > AMOUNT_MAX or minor < 1 or minor % 1 ~= 0 or to == TRANSIT then
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
        if full > AMOUNT_MAX and (rules_before or byte(to) ~= SYSTEM) or rules_before and left < -AMOUNT_MAX then
          outcome = BALANCE_LIMIT
--@limits         elseif flags_exist and over_limit(ledger, to, full) then
--@limits           outcome = BALANCE_LIMIT
        else
          if full > AMOUNT_MAX then
            full, carries = have - STRIPE_LIMB + minor, carries or {}
            carries[#carries + 1] = {ledger.key, to, 1}
          end
          if left < -AMOUNT_MAX then
            left, carries = transit + STRIPE_LIMB - minor, carries or {}
            carries[#carries + 1] = {ledger.key, TRANSIT, -1}
          end
          outcome, known[to], transit, transit_changed = APPLIED, full, left, true
          written[n + 1], written[n + 2], n = to, format('%d', full), n + 2
        end
      end
      local record = here and here .. mark .. outcome or mark .. outcome
      remembered[field] = record
      if not long then
        records[record_count + 1], records[record_count + 2], record_count = field, record, record_count + 2
      elseif first then
        lengthened = lengthened or {}
        lengthened[#lengthened + 1] = i
      end
    end
  elseif kind == SETTLE then
    local field = columns[FIELD + i]
    settled = settled or {}
    if settled[field] or not call('ZSCORE', k_open, field) then
      outcome = REPEATED
    else
      settled[field], effect, outcome = true, true, APPLIED
    end
  else
    if ledger then ledger.written_count, ledger.transit, ledger.transit_changed = n, transit, transit_changed end
    detail_at = detail_at + 1
    local rule, refused = rules[kind], nil
    if rule then outcome, refused = rule(i, ledger, columns[ACCOUNT + i], columns[detail_at], columns[AMOUNT + i]) end
    if ledger then n, transit, transit_changed = ledger.written_count, ledger.transit, ledger.transit_changed end
    if not outcome then return refused or {'MALFORMED', 'operation ' .. i} end
  end
  outcomes[i] = outcome
end
if record_end_at ~= #head + 1 or other ~= account_count or detail_at ~= last then
  return {'MALFORMED', 'columns of other lengths'}
end
if ledger then ledger.written_count, ledger.transit, ledger.transit_changed = n, transit, transit_changed end
local outcomes_text = concat(outcomes)
if lengthened then
  for n = 1, #lengthened do
    local i = lengthened[n]
    local field = columns[FIELD + i]
    records[record_count + 1], records[record_count + 2] = field, recalled[i] .. remembered[field]
    record_count = record_count + 2
  end
end

-- Write -----------------------------------------------------------------------------------------------------------

local clock_text = format('%d', now_ms)
local writes = effect or record_count > 0
if REPLAY and (outcomes_text ~= recorded or not writes) then return {'DIFFERS', outcomes_text} end
if not writes then seq_text, nonce = meta[1], nonce_last end
local header = seq_text .. ' ' .. nonce_last .. ' ' .. nonce .. ' ' .. epoch .. ' ' .. clock_text .. ' ' .. window_text
  .. (witnessed_s == '' and '' or '.') .. witnessed_s .. ' ' .. outcomes_text .. RULES
if writes then
  local currencies_new
  if write_groups then write_groups() end
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
  if carries then
    for _, carry in ipairs(carries) do call('HINCRBY', carry[1], carry[2] .. '+', carry[3]) end
  end
  if record_count > 0 then call('HSET', k_seen, unpack(records, 1, record_count)) end
  if rules then
    for account, flag in pairs(flags_new) do call('HSET', k_flags, account, flag) end
--@plain     if next(flags_new) then call('HSET', k_meta, 'flagged', 1) end
--@limits     if next(flags_new) then call('HSET', k_meta, 'flagged', limited and 2 or 1) end
    for field, record in pairs(remembered_before) do call('HSET', k_seen_before, field, record) end
    for part, entry_seq in pairs(refunded) do call('ZADD', k_open, entry_seq, part) end
    if holds then write_holds() end
  end
  if settled then
    local trimmed
    for entry_seq in pairs(settled) do
      call('ZREMRANGEBYSCORE', k_open, entry_seq, entry_seq)
      if not REPLAY and seq_last - entry_seq >= PINNED_ENTRIES_MAX then
        trimmed = trimmed or (call('HGET', k_meta, 'trimmed') or 0) + 0
        if entry_seq + 0 < trimmed then call('XDEL', k_journal, entry_seq .. '-0') end
      end
    end
  end
  if debited then call('ZADD', k_open, seq_text, seq_text) end

  if not REPLAY then call('XADD', k_journal, seq_text .. '-0', 'header', header, 'operations', ARGV[2]) end
  call('HSET', k_meta, 'seq', seq_text, 'nonce', nonce, 'clock', clock_text)
  if currencies_new then
    local list = {}
    for currency in gmatch(currencies_known, '[^,]+') do list[#list + 1] = currency end
    table.sort(list)
    call('HSET', k_meta, 'currencies', concat(list, ','))
  end
  if window_asked ~= window then
    call('HSET', k_meta, 'window', window_asked)
    call('HDEL', k_meta, 'witnessed_s')
    call('UNLINK', k_seen_dropped)
  end
  if REPLAY and witnessed_s ~= '' and witnessed_s ~= '0' then call('HSET', k_meta, 'witnessed_s', witnessed_s) end
end

if not repeated then return header end

--@include lib/places.lua

local reply_lines = {header}
local opened, opened_bytes = {}, 0 -- open entry -> its header and columns; false if not in the stream
for n = 1, #repeated do
  local i = repeated[n]
  local field = columns[FIELD + i]
  if said and said[i] then
    reply_lines[n + 1] = (i - 1) .. ' ' .. said[i]
  elseif kinds[i] == CREDIT then
    reply_lines[n + 1] = (i - 1) .. ' ' .. credited[i]
  else
    local record = remembered[field] or recalled[i] or recalled_before[i]
    local outcome, opened_ms = sub(record, 1, 1), '0'
    local entry_seq, idx = place_of(record)
    if kinds[i] == CAPTURE_DEBIT or kinds[i] == RETURN_DEBIT then
      opened_ms = call('ZSCORE', k_open, entry_seq) and '1' or '0' -- who ends it takes the words of its entry
    elseif kinds[i] == DEBIT and call('ZSCORE', k_open, entry_seq) then
      local entry = opened[entry_seq]
      if entry == nil and opened_bytes < OPENED_BYTES_MAX then
        local found = call('XRANGE', k_journal, entry_seq .. '-0', entry_seq .. '-0')[1]
        entry = false
        if found then
          local text = found[2][4]
          entry, opened_bytes = {header = found[2][2], columns = cjson.decode(text)}, opened_bytes + #text
        end
        opened[entry_seq] = entry
      end
      if entry == nil then
        outcome = LOOK_AGAIN
      elseif not entry then
        opened_ms = '1'
      elseif transfer_of(entry.columns, idx + 1) == transfer_of(columns, i) then
        opened_ms = match(entry.header, '^%S+ %S+ %S+ %S+ (%d+) ')
      else
        outcome = CONFLICT
      end
    end
    reply_lines[n + 1] = (i - 1) .. ' ' .. outcome .. ' ' .. entry_seq .. '.' .. idx .. ' ' .. opened_ms
  end
end
return concat(reply_lines, '\n')
