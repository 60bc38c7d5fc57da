  -- o: a balance of 0 in one currency, with an overdraft limit if one is named, and behind '<' the most it may have.
  rules[OPEN_ACCOUNT] = function(i, ledger, account, detail)
--@limits     local limit, most = match(detail, '^([%d-]+)<(%d+)$')
--@limits     detail = limit or detail
--@limits     if most and tonumber(most) > AMOUNT_MAX then return nil end
    local limit_ok = detail == '-' or (find(detail, '^%d+$') and tonumber(detail) <= AMOUNT_MAX)
    if not ledger or not limit_ok then return nil end
    if balance(ledger, i, account) then
      if detail ~= '-' and tonumber(detail) ~= limit_of(account, ledger.currency) then return CONFLICT end
--@limits       if most and not find((flags[account] or '') .. ' ', ' ' .. ledger.currency .. '<' .. most .. ' ', 1, true) then
--@limits         return CONFLICT
--@limits       end
      return REPEATED
    end
    if status_of(account) == 'C' then return CLOSED end
    local written, n = ledger.written, ledger.written_count
    ledger.known[account], effect = 0, true
    written[n + 1], written[n + 2], ledger.written_count = account, '0', n + 2
    if detail ~= '-' and tonumber(detail) > 0 then
--@plain       flags[account] = (flags[account] or 'A') .. ' ' .. ledger.currency .. '=' .. detail
--@limits       flags[account] = with_limit(flags[account] or 'A', ledger.currency, '=', detail)
      flags_new[account], flags_exist = flags[account], true
    end
--@limits     if most then
--@limits       flags[account] = with_limit(flags[account] or 'A', ledger.currency, '<', most)
--@limits       flags_new[account], flags_exist, limited = flags[account], true, true
--@limits     end
    return APPLIED
  end
