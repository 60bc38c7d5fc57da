  -- Shared by the rules of holds, groups and refunds: answers, and the balances of accounts that only details name.

  local columns, remembered, recalled, recalled_before, seq_digits -- of the current partition

  function start_answers()
    columns, remembered, recalled, recalled_before = batch.columns, batch.remembered, batch.recalled, batch.recalled_before
    seq_digits = nil
  end

  -- The end of the next remembered operation's record: fingerprint and idx.
  function next_record_end()
    local at = batch.record_end_at
    batch.record_end_at = at + RECORD_END_LENGTH
    return sub(batch.head, at, at + RECORD_END_LENGTH - 1)
  end

  -- '=' or '!' for an operation that is remembered under its own id, nil for a new one; and its record's end.
  function answered(i)
    local at = batch.record_end_at -- as next_record_end(), without a call
    batch.record_end_at = at + RECORD_END_LENGTH
    local record_end = sub(batch.head, at, at + RECORD_END_LENGTH - 1)
    local old = remembered[columns[FIELD + i]] or recalled[i] or recalled_before[i]
    if not old then return nil, record_end end
    if sub(old, -RECORD_END_LENGTH, -3) ~= sub(record_end, 1, FINGERPRINT_LENGTH) then return CONFLICT, record_end end
    batch.repeated[#batch.repeated + 1] = i
    return REPEATED, record_end
  end

  function remember(i, outcome, record_end)
    seq_digits = seq_digits or digits_of(batch.seq_last + 1)
    local field, text = columns[FIELD + i], outcome .. seq_digits .. record_end
    remembered[field] = text
    local records, n = batch.records, batch.record_count -- as record(), without a call
    records[n + 1], records[n + 2], batch.record_count = field, text, n + 2
  end

  -- The available balance of any account; false if the account is unknown.
  function available(ledger, account)
    local minor = ledger.known[account]
    if minor then return minor end
    local read = ledger.read
    if not read then -- by account; most batches do not need it
      read = {}
      for at, value in pairs(ledger.values) do read[columns[batch.account_at + at]] = value end
      ledger.read = read
    end
    minor = read[account]
    if minor == nil then
      minor = call('HGET', ledger.key, account)
      read[account] = minor
    end
    return minor and minor + 0
  end

  function held(ledger, account)
    local minor = ledger.held[account] or ledger.held_before[account]
    if not minor then
      minor = (call('HGET', ledger.k_held, account) or 0) + 0
      ledger.held_before[account] = minor
    end
    return minor
  end

  function shift_held(ledger, account, delta) ledger.held[account] = held(ledger, account) + delta end

  -- Writes account -> minor units to a hash.
  function write_minors(key, minors)
    local written, n = {}, 0
    for account, minor in pairs(minors) do
      written[n + 1], written[n + 2], n = account, format('%d', minor), n + 2
    end
    if n > 0 then call('HSET', key, unpack(written, 1, n)) end
  end
