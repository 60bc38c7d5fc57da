  -- Reading and writing balances and answers for the rules. Minor units; a ledger is made at the top of apply.lua.

  -- The balance of operation i's account as this batch has left it; nil where the account is not known.
  local function balance(ledger, i, account)
    local minor = ledger.known[account] or ledger.values[i]
    return minor and minor + 0
  end

  -- have + delta. What leaves the bounds of a number, of a system account only, is carried.
  local function added(ledger, account, have, delta)
    local after, limbs = have + delta, 0
    if after > AMOUNT_MAX then
      after, limbs = have - STRIPE_LIMB + delta, 1
    elseif after < -AMOUNT_MAX then
      after, limbs = have + STRIPE_LIMB + delta, -1
    end
    if limbs ~= 0 then
      carries = carries or {}
      carries[#carries + 1] = {ledger.key, account, limbs}
    end
    return after
  end

  -- Adds delta to an account that has `have`, and to @transit the opposite.
  local function post_with_transit(ledger, account, have, delta)
    local written, n = ledger.written, ledger.written_count
    local after = added(ledger, account, have, delta)
    ledger.known[account], ledger.transit = after, added(ledger, TRANSIT, ledger.transit, -delta)
    written[n + 1], written[n + 2] = account, format('%d', after)
    ledger.written_count, ledger.transit_changed, effect = n + 2, true, true
  end

  -- The answer that is remembered of operation i's transfer becomes a decline.
  local function rewrite(i, decline)
    local field = columns[FIELD + i]
    local record = not remembered_before[field] and (remembered[field] or recalled[i])
    if record then
      record = decline .. sub(record, 2)
      remembered[field] = record
      records[record_count + 1], records[record_count + 2], record_count = field, record, record_count + 2
    else
      record = remembered_before[field] or recalled_before[i]
      if record then
        record = decline .. sub(record, 2)
        remembered_before[field], remembered[field] = record, record
      end
    end
  end
