  -- o: a balance of 0 in one currency, with an overdraft limit if one is named.
  rules[OPEN_ACCOUNT] = function(i, ledger, account, detail)
    local limit_ok = detail == '-' or (find(detail, '^%d+$') and tonumber(detail) <= AMOUNT_MAX)
    if not ledger or not limit_ok then return nil end
    if balance(ledger, i, account) then
      if detail ~= '-' and tonumber(detail) ~= limit_of(account, ledger.currency) then return CONFLICT end
      return REPEATED
    end
    if status_of(account) == 'C' then return CLOSED end
    local written, n = ledger.written, ledger.written_count
    ledger.known[account], effect = 0, true
    written[n + 1], written[n + 2], ledger.written_count = account, '0', n + 2
    if detail ~= '-' and tonumber(detail) > 0 then
      flags[account] = (flags[account] or 'A') .. ' ' .. ledger.currency .. '=' .. detail
      flags_new[account], flags_exist = flags[account], true
    end
    return APPLIED
  end
