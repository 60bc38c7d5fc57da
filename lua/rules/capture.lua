  -- k: money of a hold is paid to a receiver here; q: to one elsewhere, by way of @transit.
  -- detail: '<receiver>|<field of the hold>|<f final or p part>|<amount asked for, or ->'; minor: what that is now.
  local function capture(i, ledger, account, detail, minor, here)
    local to, share, asked = match(detail, '^([^|]+)|[^|]+|([fp])|(%S+)$')
    local hold_field = batch.hold_fields[i]
    if not to or to == account or to == TRANSIT or minor < 0 or minor > AMOUNT_MAX or minor % 1 ~= 0 then return nil end
    local outcome, record_end = answered(i)
    if outcome then return outcome end
    local hold
    outcome = holder_refusal(i, ledger, account)
    if not outcome then outcome, hold = hold_refusal(hold_field, account) end
    if outcome == HOLD_BUSY then return outcome end
    if not outcome then
      local rest = remaining(hold)
      -- The service looked at the hold before: what it saw must still be so.
      if not ledger or hold.currency ~= ledger.currency or asked == '-' and minor ~= rest then return STALE end
      if minor < 1 then return nil end
      local have_to = here and available(ledger, to)
      if hold.to ~= '-' and hold.to ~= to then
        outcome = DESTINATION_MISMATCH
      elseif minor > rest then
        outcome = AMOUNT_EXCEEDS_HOLD
      elseif hold.captures >= HOLD_LIMIT_CAPTURES then
        outcome = HOLD_LIMIT
      elseif here then
        outcome = side_refusal(batch.flags, nil, nil, to, have_to)
        if not outcome and (have_to or 0) + minor > AMOUNT_MAX and byte(to) ~= SYSTEM then outcome = BALANCE_LIMIT end
--@limits           if not outcome and over_limit(batch.flags, ledger, to, (have_to or 0) + minor) then outcome = BALANCE_LIMIT end
        if not outcome and share == 'f' and not has_room(hold, rest - minor) then outcome = BALANCE_LIMIT end
      end
      if not outcome then
        shift_held(ledger, account, -minor)
        hold.captured, hold.captures = hold.captured + minor, hold.captures + 1
        local ends = share == 'f' or minor == rest
        if here then
          post(ledger, to, have_to or 0, minor)
          if ends then finish_hold(hold_field, hold, 'C') end
        else
          post_transit(ledger, minor)
          batch.debited = true
          if ends then hold.busy = batch.seq_text .. '.' .. (i - 1) end
        end
        change(hold_field, hold)
        remember(i, APPLIED, record_end)
        return APPLIED
      end
    end
    remember(i, outcome, record_end)
    return outcome
  end

  rules[CAPTURE] = function(i, ledger, account, detail, minor)
    return capture(i, ledger, account, detail, minor, true)
  end

  rules[CAPTURE_DEBIT] = function(i, ledger, account, detail, minor)
    return capture(i, ledger, account, detail, minor, false)
  end
