  -- h: sets aside money of one account. detail: '<to account, or -; =- for the account named ->|<expires in ms>'.
  local placed_as, placed_to, placed_expires -- the last detail and its words; most in a batch are equal

  function start_placing() placed_as = nil end

  rules[HOLD] = function(i, ledger, account, detail, minor)
    local k, field, held_already = next_hold()
    if detail ~= placed_as then
      local to, expires_in_ms = match(detail, '^([^|]+)|(%d+)$')
      if not to then return nil end
      placed_as, placed_to, placed_expires = detail, to, format('%d', batch.now_ms + expires_in_ms)
    end
    if not ledger or byte(account) == SYSTEM or minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then return nil end
    local outcome, record_end = answered(i)
    if outcome then return outcome end
    local mark = sub(record_end, 1, FINGERPRINT_LENGTH)
    if held_already then -- the hold outlived the memory of its answer
      return match(held_already, '^%u %S+ %S+ %S+ %d+ %d+ %d+ %d+ %d+ (%S+)') == mark and REPEATED or CONFLICT
    end
    local have = balance(ledger, i, account)
    local flag, count, counter = batch.flags[account], open_count(k)
    if flag or not have then outcome = side_refusal(batch.flags, account, have, nil, nil) end
    if not outcome and count >= HOLD_LIMIT_OPEN then outcome = HOLD_LIMIT end
    if not outcome and have < minor and have - minor < -limit_of(batch.flags, account, ledger.currency) then
      outcome = INSUFFICIENT_FUNDS
    end
    local aside = held_of(k, ledger, account) + minor
    if not outcome and aside > AMOUNT_MAX then outcome = BALANCE_LIMIT end
    if outcome then
      remember(i, outcome, record_end)
      return outcome
    end
    post(ledger, account, have, -minor)
    ledger.held[account] = aside
    counts[counter] = count + 1
    local idx = texts[i - 1] or number(i - 1)
    local note = batch.notes and batch.notes[idx]
    due[due_count + 1], due[due_count + 2], due_count = placed_expires, field, due_count + 2
    holds[field] = 'O ' .. account .. ' ' .. placed_to .. ' ' .. ledger.currency .. ' ' .. (texts[minor] or number(minor)) .. ' 0 0 0 '
      .. placed_expires .. ' ' .. mark .. ' ' .. batch.seq_text .. '.' .. idx .. (note and note.ref and ' - ' .. note.ref or ' -')
    told[i] = field
    remember(i, HOLD_RECORD, record_end)
    return APPLIED
  end

  -- i: increases a hold. detail: field of the hold.
  rules[INCREASE] = function(i, ledger, account, _, minor)
    local k, field, text = next_hold()
    if minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then return nil end
    local outcome, record_end = answered(i)
    if outcome then return outcome end
    outcome = holder_refusal(i, ledger, account)
    local status, holder, to, currency, amount, head_end, _, _, _, _, expires_ms, _, busy = match(text or '', RECORD)
    if not outcome then outcome = hold_refusal(account, status, holder, expires_ms, busy) end
    if outcome == HOLD_BUSY then return outcome end
    if not outcome then
      if not ledger or currency ~= ledger.currency then return STALE end
      local have, more, aside = available(ledger, account), amount + minor, held_of(k, ledger, account) + minor
      if have - minor < -limit_of(batch.flags, account, ledger.currency) then
        outcome = INSUFFICIENT_FUNDS
      elseif more > AMOUNT_MAX or aside > AMOUNT_MAX then
        outcome = BALANCE_LIMIT
      else
        post(ledger, account, have, -minor)
        ledger.held[account] = aside
        holds[field] = 'O ' .. account .. ' ' .. to .. ' ' .. currency .. ' ' .. number(more) .. sub(text, head_end)
        told[i] = field
        remember(i, HOLD_RECORD, record_end)
        return APPLIED
      end
    end
    remember(i, outcome, record_end)
    return outcome
  end
