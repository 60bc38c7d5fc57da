  -- What flags (account -> text, of those that have some) say of an account: status, limits, and whether it may be a side
  -- of a transfer.
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

  -- The first of unknown, closed, frozen that holds for a, which pays, or b, which receives (nil or false: not here).
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

--@extended   -- Whether an account would have more than it may, with so much available; what is set aside, or coming in, counts.
--@extended   function over_limit(flags, ledger, account, available)
--@extended     local flag = flags[account]
--@extended     local _, at = find(flag or '', ' ' .. ledger.currency .. '<', 1, true)
--@extended     if not at then return false end
--@extended     local held = ledger.held[account] or call('HGET', ledger.k_held, account) or 0
--@extended     local pending = ledger.pending[account] or call('HGET', ledger.k_pending, account) or 0
--@extended     return available + held + pending > match(flag, '^%d+', at + 1) + 0
--@extended   end
--@extended
--@extended   -- An account's flags with a limit set: `sign` is '=' for an overdraft, '<' for the most that it may have. One that is there
--@extended   -- stays in its place; the most stand behind the overdrafts.
--@extended   function with_limit(flag, currency, sign, text)
--@extended     local word = ' ' .. currency .. sign
--@extended     local from, to = find(flag, word .. '%d+')
--@extended     if from then return sub(flag, 1, from - 1) .. word .. text .. sub(flag, to + 1) end
--@extended     local behind = sign == '=' and find(flag, ' %u%u%u<') or #flag + 1
--@extended     return sub(flag, 1, behind - 1) .. word .. text .. sub(flag, behind)
--@extended   end
