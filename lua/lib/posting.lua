  -- Reading and writing balances and answers for the rules. Minor units; apply/read.lua makes the ledgers.

  -- The balance of operation i's account as this batch has left it; nil if the account is unknown.
  function balance(ledger, i, account)
    local minor = ledger.known[account] or ledger.values[i]
    return minor and minor + 0
  end

  -- have + delta; carries what leaves the bounds of a number, which only a system account's balance may do.
  function added(ledger, account, have, delta)
    local after, limbs = have + delta, 0
    if after > AMOUNT_MAX then
      after, limbs = have - STRIPE_LIMB + delta, 1
    elseif after < AMOUNT_MIN then
      after, limbs = have + STRIPE_LIMB + delta, -1
    end
    if limbs ~= 0 then batch.carries[#batch.carries + 1] = {ledger.key, account, limbs} end
    return after
  end

  function post(ledger, account, have, delta)
    local written, n = ledger.written, ledger.written_count
    local after = have + delta
    if after > AMOUNT_MAX or after < AMOUNT_MIN then after = added(ledger, account, have, delta) end
    ledger.known[account] = after
    written[n + 1], written[n + 2], ledger.written_count, batch.effect = account, format('%d', after), n + 2, true
  end

  function post_transit(ledger, delta)
    local after = ledger.transit + delta
    if after > AMOUNT_MAX or after < AMOUNT_MIN then after = added(ledger, TRANSIT, ledger.transit, delta) end
    ledger.transit, ledger.transit_changed = after, true
  end

  -- Adds a field of `seen` to the one HSET of the batch.
  function record(field, text)
    local records, n = batch.records, batch.record_count
    records[n + 1], records[n + 2], batch.record_count = field, text, n + 2
  end

  -- A number as in records: in base 64, most significant digit first.
  function digits_of(number)
    local text = ''
    repeat
      local digit = number % 64
      text, number = sub(DIGITS, digit + 1, digit + 1) .. text, (number - digit) / 64
    until number == 0
    return text
  end

  -- Changes the remembered answer of operation i's transfer to a decline, if operation idx of entry entry_seq was given
  -- it, and no later one of the same id. Returns whether the window in force has it; nil: none has.
  function rewrite(i, decline, entry_seq, idx)
    local field, remembered, before = batch.columns[FIELD + i], batch.remembered, batch.remembered_before
    local current = not before[field] and (remembered[field] or batch.recalled[i])
    local old = current or before[field] or batch.recalled_before[i]
    if not old then return nil end
    local is_own = sub(old, 2, -1 - RECORD_END_LENGTH) == digits_of(entry_seq + 0)
      and sub(old, -2) == sub('A' .. digits_of(idx + 0), -2)
--@replay     is_own = is_own or batch.rules < 5
    if not is_own then return nil end
    old = decline .. sub(old, 2)
    remembered[field] = old
    if not current then
      before[field] = old
      return false
    end
    record(field, old)
    return true
  end
