  -- v: what remains of a hold is available again. Frozen accounts too. The field is that of the hold.
  rules[VOID] = function(i, ledger, account)
    local field = batch.hold_fields[i]
    local hold = hold_of(field)
    if not known_here(i, ledger, account) then return UNKNOWN_ACCOUNT end
    if not hold then return HOLD_NOT_FOUND end
    if hold.status == 'C' then return HOLD_NOT_OPEN end
    if hold.status ~= 'O' then return REPEATED end
    if hold.busy ~= '-' then return HOLD_BUSY end
    if ledger ~= batch.ledgers[hold.currency] then return STALE end
    if not has_room(hold, remaining(hold)) then return BALANCE_LIMIT end
    finish_hold(field, hold, batch.now_ms >= hold.expires_ms and 'X' or 'V')
    return APPLIED
  end

  -- e: the same, once its time is over.
  rules[EXPIRE] = function(i, ledger)
    local field = batch.hold_fields[i]
    local hold = hold_of(field)
    if not hold or hold.status ~= 'O' or hold.busy ~= '-' or batch.now_ms < hold.expires_ms then return REPEATED end
    if ledger ~= batch.ledgers[hold.currency] then return STALE end
    if not has_room(hold, remaining(hold)) then return BALANCE_LIMIT end
    finish_hold(field, hold, 'X')
    return APPLIED
  end
