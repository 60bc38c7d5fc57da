  -- Status and limits of an account, and whether it may take part in a transfer. flags: account -> text, if it has any.
  function limit_of(flags, account, currency)
    local flag = flags[account]
    if not flag then return 0 end
    local _, at = find(flag, ' ' .. currency .. '=', 1, true)
    return at and tonumber(match(flag, '^%d+', at + 1)) or 0
  end

  function status_of(flags, account)
    local flag = flags[account]
    return flag and sub(flag, 1, 1) or 'A'
  end

  -- The first refusal in the order unknown, closed, frozen. a pays, b receives; nil or false: that side is not here.
  function side_refusal(flags, a, have_a, b, have_b)
    if a and not have_a and byte(a) ~= SYSTEM then return UNKNOWN_ACCOUNT end
    if b and not have_b and byte(b) ~= SYSTEM then return RECEIVER_UNKNOWN end
    local status_a, status_b = a and status_of(flags, a), b and status_of(flags, b)
    if status_a == 'C' then return CLOSED end
    if status_b == 'C' then return RECEIVER_CLOSED end
    if status_a == 'F' then return FROZEN end
    if status_b == 'F' then return RECEIVER_FROZEN end
    return nil
  end

--@extended   -- Whether an account would exceed its maximum balance, which covers available, held and pending.
--@extended   function over_limit(flags, ledger, account, available)
--@extended     local flag = flags[account]
--@extended     local _, at = find(flag or '', ' ' .. ledger.currency .. '<', 1, true)
--@extended     if not at then return false end
--@extended     local held = ledger.held[account] or call('HGET', ledger.k_held, account) or 0
--@extended     local pending = ledger.pending[account] or call('HGET', ledger.k_pending, account) or 0
--@extended     return available + held + pending > match(flag, '^%d+', at + 1) + 0
--@extended   end
--@extended
--@extended   -- An account's flags with a limit set; `sign` is '=' for an overdraft, '<' for a maximum balance. An old
--@extended   -- limit keeps its place; maximum balances follow the overdrafts.
--@extended   function with_limit(flag, currency, sign, text)
--@extended     local word = ' ' .. currency .. sign
--@extended     local from, to = find(flag, word .. '%d+')
--@extended     if from then return sub(flag, 1, from - 1) .. word .. text .. sub(flag, to + 1) end
--@extended     local behind = sign == '=' and find(flag, ' %u%u%u<') or #flag + 1
--@extended     return sub(flag, 1, behind - 1) .. word .. text .. sub(flag, behind)
--@extended   end
