  -- h: money of one account is set aside. detail: '<to account, or ->|<expires in ms>'.
  rules[HOLD] = function(i, ledger, account, detail, minor)
    local to, expires_in_ms = match(detail, '^([^|]+)|(%d+)$')
    if not to or not ledger or byte(account) == SYSTEM or minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then
      return nil
    end
    local outcome, record_end = answered(i)
    if outcome then return outcome end
    local field = batch.hold_fields[i]
    local hold = hold_of(field)
    local mark = sub(record_end, 1, FINGERPRINT_LENGTH)
    if hold then -- placed longer ago than answers are remembered
      return match(hold.middle, '^ %d+ (%S+)') == mark and REPEATED or CONFLICT
    end
    local have = balance(ledger, i, account)
    outcome = side_refusal(batch.flags, account, have, nil, nil)
    if not outcome and open_count(account) >= HOLD_LIMIT_OPEN then outcome = HOLD_LIMIT end
    if not outcome and have - minor < -limit_of(batch.flags, account, ledger.currency) then outcome = INSUFFICIENT_FUNDS end
    if not outcome and held(ledger, account) + minor > AMOUNT_MAX then outcome = BALANCE_LIMIT end
    if outcome then
      remember(i, outcome, record_end)
      return outcome
    end
    post(ledger, account, have, -minor)
    shift_held(ledger, account, minor)
    count_open(account, 1)
    local expires_ms, note = batch.now_ms + expires_in_ms, batch.notes and batch.notes[i - 1 .. '']
    change(field, {status = 'O', account = account, to = to, currency = ledger.currency, amount = minor, captured = 0,
      released = 0, captures = 0, expires_ms = expires_ms, busy = '-', head = head_of(account, to, ledger.currency, minor),
      middle = ' ' .. format('%d', expires_ms) .. ' ' .. mark .. ' ' .. batch.seq_text .. '.' .. (i - 1) .. ' ',
      tail = note and note.ref and ' ' .. note.ref or ''})
    remember(i, HOLD_RECORD, record_end)
    return APPLIED
  end

  -- i: more of it. detail: field of the hold.
  rules[INCREASE] = function(i, ledger, account, detail, minor)
    if minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then return nil end
    local outcome, record_end = answered(i)
    if outcome then return outcome end
    local hold
    outcome = holder_refusal(i, ledger, account)
    if not outcome then outcome, hold = hold_refusal(detail, account) end
    if outcome == HOLD_BUSY then return outcome end
    if hold and (not ledger or hold.currency ~= ledger.currency) then return STALE end
    if not outcome then
      local have = available(ledger, account)
      if have - minor < -limit_of(batch.flags, account, ledger.currency) then
        outcome = INSUFFICIENT_FUNDS
      elseif hold.amount + minor > AMOUNT_MAX or held(ledger, account) + minor > AMOUNT_MAX then
        outcome = BALANCE_LIMIT
      else
        post(ledger, account, have, -minor)
        shift_held(ledger, account, minor)
        hold.amount = hold.amount + minor
        hold.head = head_of(account, hold.to, hold.currency, hold.amount)
        change(detail, hold)
        remember(i, HOLD_RECORD, record_end)
        return APPLIED
      end
    end
    remember(i, outcome, record_end)
    return outcome
  end
