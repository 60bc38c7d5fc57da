  -- k: money of a hold is paid to a receiver here; q: to one elsewhere, by way of @transit.
  -- detail: '<receiver>|<field of the hold>|<f final or p part>|<amount asked for, or ->'; minor: what that is now.
  local function capture(i, ledger, account, detail, minor, here)
    local to, share, asked = match(detail, '^([^|]+)|[^|]+|([fp])|(%S+)$')
    if not to or to == account or to == TRANSIT or minor < 0 or minor > AMOUNT_MAX or minor % 1 ~= 0 then return nil end
    local outcome, record_end = answered(i)
    if outcome then return outcome end
    outcome = holder_refusal(i, ledger, account)
    local field = fields[i]
    local text = holds[field]
    local status, holder, only_to, currency, amount, head_end, captured, released, captures, middle, expires_ms, busy_at, busy,
      tail = match(text or '', RECORD)
    if not outcome then outcome = hold_refusal(account, status, holder, expires_ms, busy) end
    if outcome == HOLD_BUSY then return outcome end
    if not outcome then
      local rest = amount - captured - released
      -- The service looked at the hold before: what it saw must still be so.
      if not ledger or currency ~= ledger.currency or asked == '-' and minor ~= rest then return STALE end
      if minor < 1 then return nil end
      local have_to = here and available(ledger, to)
      if only_to ~= '-' and only_to ~= to then
        outcome = DESTINATION_MISMATCH
      elseif minor > rest then
        outcome = AMOUNT_EXCEEDS_HOLD
      elseif captures + 0 >= HOLD_LIMIT_CAPTURES then
        outcome = HOLD_LIMIT
      elseif here then
        outcome = side_refusal(batch.flags, nil, nil, to, have_to)
        if not outcome and (have_to or 0) + minor > AMOUNT_MAX and byte(to) ~= SYSTEM then outcome = BALANCE_LIMIT end
--@limits         if not outcome and over_limit(batch.flags, ledger, to, (have_to or 0) + minor) then outcome = BALANCE_LIMIT end
        if not outcome and share == 'f' and not has_room(ledger, account, rest - minor) then outcome = BALANCE_LIMIT end
      end
      if not outcome then
        local left, ends = rest - minor, share == 'f' or minor == rest
        shift_held(ledger, account, -minor)
        captured, captures = number(captured + minor), number(captures + 1)
        if here then
          post(ledger, to, have_to or 0, minor)
          if ends then
            release(ledger, account, left)
            status, released = 'C', left == 0 and released or number(released + left)
            count_open(counters[i], -1)
          end
        else
          post_transit(ledger, minor)
          batch.debited = true
          if ends then busy = batch.seq_text .. '.' .. (i - 1) end
        end
        keep(field, rewritten(text, status, head_end, captured, released, captures, middle, busy_at, busy, tail))
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
