  -- What flags say of an account: status, limits, and whether it may be a side of a transfer.
  function limit_of(account, currency)
    local flag = flags[account]
    local _, at = find(flag or '', ' ' .. currency .. '=', 1, true)
    return at and tonumber(match(flag, '^%d+', at + 1)) or 0
  end

  local function status_of(account)
    local flag = flags[account]
    return flag and sub(flag, 1, 1) or 'A'
  end

  -- The first of unknown, closed, frozen that holds for one of the two sides (b is nil where there is one side).
  function side_refusal(a, have_a, b, have_b)
    if not have_a and byte(a) ~= SYSTEM then return UNKNOWN_ACCOUNT end
    if b and not have_b and byte(b) ~= SYSTEM then return UNKNOWN_ACCOUNT end
    local status_a, status_b = status_of(a), b and status_of(b)
    if status_a == 'C' or status_b == 'C' then return CLOSED end
    if status_a == 'F' or status_b == 'F' then return FROZEN end
    return nil
  end
