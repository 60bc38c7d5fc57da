  -- h: money of one account is set aside. detail: '<to account, or ->|<expires in ms>'.
  rules[HOLD] = function(i, ledger, account, detail, minor)
    local to, expires_in_ms = match(detail, '^([^|]+)|(%d+)$')
    if not to or not ledger or byte(account) == SYSTEM or minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then
      return nil
    end
    local outcome, record_end = answered(i)
    if outcome then return outcome end
    local field, mark = fields[i], sub(record_end, 1, FINGERPRINT_LENGTH)
    if holds[field] then -- placed longer ago than answers are remembered
      return match(holds[field], '^%u %S+ %S+ %S+ %d+ %d+ %d+ %d+ %d+ (%S+)') == mark and REPEATED or CONFLICT
    end
    local have, counter, flags = balance(ledger, i, account), counters[i], batch.flags
    outcome = side_refusal(flags, account, have, nil, nil)
    if not outcome and counts[counter] >= HOLD_LIMIT_OPEN then outcome = HOLD_LIMIT end
    if not outcome and have < minor and have - minor < -limit_of(flags, account, ledger.currency) then
      outcome = INSUFFICIENT_FUNDS
    end
    local aside = held(ledger, account) + minor
    if not outcome and aside > AMOUNT_MAX then outcome = BALANCE_LIMIT end
    if outcome then
      remember(i, outcome, record_end)
      return outcome
    end
    post(ledger, account, have, -minor)
    ledger.held[account] = aside
    count_open(counter, 1)
    local expires, note = format('%d', batch.now_ms + expires_in_ms), batch.notes and batch.notes[i - 1 .. '']
    due[due_count + 1], due[due_count + 2], due_count = expires, field, due_count + 2
    keep(field, 'O ' .. account .. ' ' .. to .. ' ' .. ledger.currency .. ' ' .. format('%d', minor) .. ' 0 0 0 ' .. expires
      .. ' ' .. mark .. ' ' .. batch.seq_text .. '.' .. (i - 1) .. ' -' .. (note and note.ref and ' ' .. note.ref or ''))
    remember(i, HOLD_RECORD, record_end)
    return APPLIED
  end

  -- i: more of it. detail: field of the hold.
  rules[INCREASE] = function(i, ledger, account, detail, minor)
    if minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then return nil end
    local outcome, record_end = answered(i)
    if outcome then return outcome end
    outcome = holder_refusal(i, ledger, account)
    local text = holds[fields[i]]
    local status, holder, to, currency, amount, head_end, _, _, _, _, expires_ms, _, busy = match(text or '', RECORD)
    if not outcome then outcome = hold_refusal(account, status, holder, expires_ms, busy) end
    if outcome == HOLD_BUSY then return outcome end
    if not outcome then
      if not ledger or currency ~= ledger.currency then return STALE end
      local have, more = available(ledger, account), amount + minor
      if have - minor < -limit_of(batch.flags, account, ledger.currency) then
        outcome = INSUFFICIENT_FUNDS
      elseif more > AMOUNT_MAX or held(ledger, account) + minor > AMOUNT_MAX then
        outcome = BALANCE_LIMIT
      else
        post(ledger, account, have, -minor)
        shift_held(ledger, account, minor)
        keep(detail, 'O ' .. account .. ' ' .. to .. ' ' .. currency .. ' ' .. format('%d', more) .. sub(text, head_end))
        remember(i, HOLD_RECORD, record_end)
        return APPLIED
      end
    end
    remember(i, outcome, record_end)
    return outcome
  end
