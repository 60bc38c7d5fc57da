  -- u: the receiver elsewhere refused: the hold is as it was, or, if it has ended meanwhile, the money is available again.
  -- detail: '<seq>.<idx>.<decline>|<field of the hold>'.
  rules[UNCAPTURE] = function(i, ledger, account, detail, minor)
    local entry_seq, idx, decline = match(detail, '^(%d+)%.(%d+)%.(%l)|%S+$')
    local hold_field = batch.hold_fields[i]
    if not entry_seq or not ledger or minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then return nil end
    local part = entry_seq .. '.' .. idx
    if batch.settled[entry_seq] or batch.refunded[part] then return REPEATED end
    if not call('ZSCORE', batch.k_open, entry_seq) or call('ZSCORE', batch.k_open, part) then return REPEATED end
    local hold, have = hold_of(hold_field), available(ledger, account) or 0
    if hold and hold.status == 'O' then
      if held(ledger, account) + minor > AMOUNT_MAX then return BALANCE_LIMIT end
      shift_held(ledger, account, minor)
      if hold.busy == part then hold.busy = '-' end
      hold.captured, hold.captures = hold.captured - minor, hold.captures - 1
    else
      if have + minor > AMOUNT_MAX then return BALANCE_LIMIT end
      post(ledger, account, have, minor)
      if hold then
        hold.captured, hold.captures, hold.released = hold.captured - minor, hold.captures - 1, hold.released + minor
      end
    end
    post_transit(ledger, -minor)
    batch.refunded[part], batch.effect = entry_seq, true
    if hold then change(hold_field, hold) end
    rewrite(i, decline)
    return APPLIED
  end

  -- l: a final capture was received: the rest of its hold is available again. detail: '<seq>.<idx>|<field of the hold>'.
  rules[FINISH_HOLD] = function(i, ledger, _, detail)
    local part, hold_field = match(detail, '^(%d+%.%d+)|%S+$'), batch.hold_fields[i]
    if not part then return nil end
    local hold = hold_of(hold_field)
    if not hold or hold.status ~= 'O' or hold.busy ~= part then return REPEATED end
    if ledger ~= batch.ledgers[hold.currency] then return STALE end
    if not has_room(hold, remaining(hold)) then return BALANCE_LIMIT end
    finish_hold(hold_field, hold, 'C')
    return APPLIED
  end
