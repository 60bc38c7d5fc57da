  -- f: freeze, unfreeze, close. To close, every balance of the account must be 0: all ledgers are there to look at.
  rules[SET_FLAGS] = function(i, _, account, detail)
    local status = ({freeze = 'F', unfreeze = 'A', close = 'C'})[detail]
    if not status then return nil end
    local held, empty = false, true
    for _, each in pairs(ledgers) do
      local minor_held = balance(each, i, account)
      if minor_held then
        held = true
        if minor_held ~= 0 then empty = false end
      end
    end
    if not held then return UNKNOWN_ACCOUNT end
    local status_now = status_of(account)
    if status_now == status then return REPEATED end
    if status_now == 'C' then return CLOSED end
    if status == 'C' and not empty then return BALANCE_NOT_ZERO end
    flags[account] = status .. sub(flags[account] or '', 2)
    flags_new[account], flags_exist, effect = flags[account], true, true
    return APPLIED
  end
