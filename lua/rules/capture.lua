  -- k: pays money of a hold to a receiver here; q: to a receiver elsewhere, through @transit.
  -- detail: '<receiver>|<field of the hold>|<f final or p part>|<amount asked for, or ->'; minor: that amount, or for -
  -- the rest that the service has seen.
  local FINAL, PART, BAR, REST = 102, 112, 124, 45 -- 'f', 'p', '|', '-'

  local function capture(i, ledger, account, detail, minor)
    local k, field, text = next_hold()
    local here = batch.kinds[i] == CAPTURE
    local to_end = find(detail, '|', 1, true) or 1
    local to, field_end = sub(detail, 1, to_end - 1), to_end + 1 + #field
    local bar, share, bar_too, asked, more = byte(detail, field_end, field_end + 4)
    if to == '' or field == '' or bar ~= BAR or bar_too ~= BAR or share ~= FINAL and share ~= PART or not asked
      or to == account or to == TRANSIT or minor < 0 or minor > AMOUNT_MAX or minor % 1 ~= 0 then
      return nil
    end
    local outcome, record_end = answered(i)
    if outcome then return outcome end
    outcome = holder_refusal(i, ledger, account)
    local status, holder, only_to, currency, amount, head_end, captured, released, captures, middle, expires_ms, busy_at, busy, tail =
      words_of_hold(text, account)
    if not outcome then outcome = hold_refusal(account, status, holder, expires_ms, busy) end
    if outcome == HOLD_BUSY then return outcome end
    if not outcome then
      local rest = amount - captured - released
      -- The service has read the hold: what it saw must still be true.
      if not ledger or currency ~= ledger.currency or asked == REST and not more and minor ~= rest then return STALE end
      if minor < 1 then return nil end
      local have_to
      if here then have_to = receiver_has(k, ledger, to) end
      if only_to ~= '-' and only_to ~= to and only_to ~= '=' .. to then
        outcome = DESTINATION_MISMATCH
      elseif minor > rest then
        outcome = AMOUNT_EXCEEDS_HOLD
      elseif captures + 0 >= HOLD_LIMIT_CAPTURES then
        outcome = HOLD_LIMIT
      elseif here then
        outcome = side_refusal(batch.flags, nil, nil, to, have_to)
        if not outcome and (have_to or 0) + minor > AMOUNT_MAX and byte(to) ~= SYSTEM then outcome = BALANCE_LIMIT end
        if not outcome and over_limit(batch.flags, ledger, to, (have_to or 0) + minor) then outcome = BALANCE_LIMIT end
        if not outcome and share == FINAL and not has_room(ledger, account, rest - minor) then outcome = BALANCE_LIMIT end
      end
      if not outcome then
        local left, ends = rest - minor, share == FINAL or minor == rest
        ledger.held[account] = held_of(k, ledger, account) - minor
        if here then
          post(ledger, to, have_to or 0, minor)
          if ends then
            release(ledger, account, left)
            status, released = 'C', released + left
            count_one_less(k)
          end
          told[i] = field
        else
          post_transit(ledger, minor)
          batch.debited, batch.effect = true, true
          if ends then busy = batch.seq_text .. '.' .. (texts[i - 1] or number(i - 1)) end
        end
        holds[field] = rewritten(text, status, head_end, captured + minor, released, captures + 1, middle, busy_at, busy, tail)
        remember(i, APPLIED, record_end)
        return APPLIED
      end
    end
    remember(i, outcome, record_end)
    return outcome
  end

  rules[CAPTURE], rules[CAPTURE_DEBIT] = capture, capture
