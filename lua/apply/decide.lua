-- Decide: every operation in order; each sees the effects of those before it. Nothing is written.

local seq_text = format('%d', seq_last + 1)
local effect = false -- whether anything is to be written
local debited = false -- whether money leaves this partition with this entry
local remembered = {} -- what this batch itself remembers: field -> record; of a long record only what this batch adds
local lengthened -- for each long record, the first operation that adds to it
local records, record_count = {}, 0 -- the same as HSET arguments; if a field is written twice, the last record stays
local settled -- made when it is needed
local seq_digits, record_begin -- seq of this entry as in records; beginning of the record of an applied operation
local repeated -- positions of repeated operations that have something remembered
-- Only a system account's balance may leave the bounds of a number. STRIPE_LIMBs are then carried: <account> has the
-- rest, <account>+ their count. A carry is {key, account, change of the count}.
local carries

-- The common kinds are decided in the loop below; the rules that apply/rules.lua makes decide other kinds and flags.
local batch -- of the rules; nil where no kind needs one
local side_refusal, limit_of
--@extended local over_limit
if flags_exist or uncommon then
  made = made or make_rules()
  made.look_at_flags()
  side_refusal, limit_of = made.side_refusal, made.limit_of
--@extended   over_limit = made.over_limit
end
if uncommon then
  if not flags_exist then flags = {} end
  settled, repeated, carries = {}, {}, {}
  batch = {tag = tag, head = head, columns = columns, account_at = ACCOUNT, kinds = kinds, count = count, notes = notes, ledgers = ledgers,
    flags = flags, flags_exist = flags_exist, flags_new = {}, seq_last = seq_last, seq_text = seq_text, now_ms = now_ms,
    rules_before = rules_before, window_asked = window_asked, recalled = recalled, recalled_before = recalled_before,
    remembered = remembered, remembered_before = {}, records = records, settled = settled, refunded = {}, repeated = repeated,
    carries = carries, k_journal = k_journal, k_open = k_open, k_flags = k_flags, k_seen = k_seen,
    k_seen_before = k_seen_before,
--@extended     k_hold = k_hold, k_due = k_due, k_group = k_group,
    currencies_known = currencies_known}
--@replay   batch.rules = ARGV[7] + 0
--@extended   batch.limited = limited
  made.start(batch)
--@extended   if holding or returning or grouping then
--@extended     made.start_answers()
--@extended     for _, each in pairs(ledgers) do
--@extended       each.wanted, each.wanted_count, each.getting, each.held_before, each.pending_before = {}, 0, {}, {}, {}
--@extended     end
--@extended     if holding then made.read_holds(ACCOUNT, AMOUNT + count) end
--@extended     if returning then made.return_money() end
--@extended     if grouping then made.read_groups(AMOUNT + count) end
--@extended   end
end

local outcomes, told = nil, 0 -- the first `told` outcomes, in pieces; nil while all are APPLIED, as in most entries
local credited -- position -> remembered outcome of a repeated credit
local other = count -- position among the accounts of the last transfer's receiver
local detail_at = AMOUNT + count -- position in the columns of the last detail used
local ledger, currency = ledgers[currencies], currencies -- of this operation; nil at first if each has its own currency
local known, values, written, n, transit, transit_changed = nothing, nothing, nothing, 0, 0, false
if ledger then known, values, written, transit = ledger.known, ledger.values, ledger.written, ledger.transit end
for i = 1, count do
  local kind = kinds[i]
  local outcome
  if currency_each and currency_each[i] ~= currency then
    if ledger then ledger.written_count, ledger.transit, ledger.transit_changed = n, transit, transit_changed end
    currency = currency_each[i]
    ledger = ledgers[currency]
    if ledger then
      known, values, written, n = ledger.known, ledger.values, ledger.written, ledger.written_count
      transit, transit_changed = ledger.transit, ledger.transit_changed
    end
  end
  if kind == DEBIT or kind == TRANSFER then
    -- A debit is of a transfer whose receiver is elsewhere; a transfer has both sides here.
    local field, next_end_at = columns[FIELD + i], record_end_at + RECORD_END_LENGTH
    local record_end = sub(head, record_end_at, next_end_at - 1)
    record_end_at = next_end_at
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
--@replay     elseif rules_before and find('=!', sub(recorded, i, i), 1, true) then
--@replay       outcome = sub(recorded, i, i) -- by the record of another payer, whose name has the same CRC-32
    else
      local from, minor = columns[ACCOUNT + i], columns[AMOUNT + i]
      if not ledger or minor > AMOUNT_MAX or minor < 1 or minor % 1 ~= 0 or from == TRANSIT
        or to and (to == TRANSIT or to == from) then
        return {'MALFORMED', 'operation ' .. i}
      end
      local have, have_to = known[from] or values[i], transit
      if to then have_to = known[to] or values[other] end
      if flags_exist then
        outcome = side_refusal(flags, from, have, to, have_to)
      elseif not have and byte(from) ~= SYSTEM then
        outcome = UNKNOWN_ACCOUNT
      elseif not have_to and byte(to) ~= SYSTEM then
        outcome = RECEIVER_UNKNOWN
      end
      if not outcome then
        local left, full = (have or 0) - minor, (have_to or 0) + minor
        if left < 0 and byte(from) ~= SYSTEM and left < -(flags_exist and limit_of(flags, from, currency) or 0) then
          outcome = INSUFFICIENT_FUNDS
        elseif notes and notes[i - 1 .. ''] and left < (notes[i - 1 .. ''].min or left) and byte(from) ~= SYSTEM then
          outcome = INSUFFICIENT_FUNDS -- below the minimum that the caller wants left
        elseif full > AMOUNT_MAX and to and byte(to) ~= SYSTEM then
          outcome = BALANCE_LIMIT
--@replay         elseif rules_before and (full > AMOUNT_MAX or left < AMOUNT_MIN) then
--@replay           outcome = BALANCE_LIMIT
--@extended         elseif to and flags_exist and over_limit(flags, ledger, to, full) then
--@extended           outcome = BALANCE_LIMIT
        else
          if full > AMOUNT_MAX then
            full, carries = (have_to or 0) - STRIPE_LIMB + minor, carries or {}
            carries[#carries + 1] = {ledger.key, to or TRANSIT, 1}
          end
          if left < AMOUNT_MIN then
            left, carries = (have or 0) + STRIPE_LIMB - minor, carries or {}
            carries[#carries + 1] = {ledger.key, from, -1}
          end
          outcome, known[from] = APPLIED, left
          n = n + 2
          written[n - 1], written[n] = from, format('%d', left)
          if to then
            known[to] = full
            n = n + 2
            written[n - 1], written[n] = to, format('%d', full)
          else
            transit, transit_changed, debited = full, true, true
          end
        end
      end
      if not record_begin then
--@include lib/seq_digits.lua
        record_begin = APPLIED .. seq_digits
      end
      local record = outcome == APPLIED and record_begin .. record_end or outcome .. seq_digits .. record_end
      remembered[field] = record
      record_count = record_count + 2
      records[record_count - 1], records[record_count] = field, record
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
        outcome = side_refusal(flags, nil, nil, to, have)
      elseif not have and byte(to) ~= SYSTEM then
        outcome = RECEIVER_UNKNOWN
      end
      if not outcome then
        local full, left = (have or 0) + minor, transit - minor
        if full > AMOUNT_MAX and byte(to) ~= SYSTEM then
          outcome = BALANCE_LIMIT
--@replay         elseif rules_before and (full > AMOUNT_MAX or left < AMOUNT_MIN) then
--@replay           outcome = BALANCE_LIMIT
--@extended         elseif flags_exist and over_limit(flags, ledger, to, full) then
--@extended           outcome = BALANCE_LIMIT
        else
          if full > AMOUNT_MAX then
            full, carries = have - STRIPE_LIMB + minor, carries or {}
            carries[#carries + 1] = {ledger.key, to, 1}
          end
          if left < AMOUNT_MIN then
            left, carries = transit + STRIPE_LIMB - minor, carries or {}
            carries[#carries + 1] = {ledger.key, TRANSIT, -1}
          end
          outcome, known[to], transit, transit_changed = APPLIED, full, left, true
          n = n + 2
          written[n - 1], written[n] = to, format('%d', full)
        end
      end
      local record = here and here .. mark .. outcome or mark .. outcome
      remembered[field] = record
      if not long then
        record_count = record_count + 2
        records[record_count - 1], records[record_count] = field, record
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
    local rule, refused = made.rules[kind], nil
    batch.record_end_at, batch.record_count, batch.debited = record_end_at, record_count, debited
    if rule then outcome, refused = rule(i, ledger, columns[ACCOUNT + i], columns[detail_at], columns[AMOUNT + i]) end
    record_end_at, record_count, debited, flags_exist = batch.record_end_at, batch.record_count, batch.debited, batch.flags_exist
    if ledger then n, transit, transit_changed = ledger.written_count, ledger.transit, ledger.transit_changed end
    if not outcome then return refused or {'MALFORMED', 'operation ' .. i} end
  end
  if outcome ~= APPLIED then
    outcomes = outcomes or {}
    if i > told + 1 then outcomes[#outcomes + 1] = rep(APPLIED, i - told - 1) end
    outcomes[#outcomes + 1], told = outcome, i
  end
end
if record_end_at ~= #head + 1 or other ~= account_count or detail_at ~= last then
  return {'MALFORMED', 'columns of other lengths'}
end
if ledger then ledger.written_count, ledger.transit, ledger.transit_changed = n, transit, transit_changed end
if batch and batch.effect then effect = true end
local outcomes_text = rep(APPLIED, count - told)
if outcomes then outcomes_text = concat(outcomes) .. outcomes_text end
if lengthened then
  for n = 1, #lengthened do
    local i = lengthened[n]
    local field = columns[FIELD + i]
    records[record_count + 1], records[record_count + 2] = field, recalled[i] .. remembered[field]
    record_count = record_count + 2
  end
end
