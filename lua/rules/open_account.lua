  -- Keeps which operation has the account's metadata; rules before 4 did not keep it.
  local function keep_place(i, account)
--@replay     if batch.rules < 4 then return end
    if not (batch.notes and batch.notes[i - 1 .. '']) then return end
    batch.noted = batch.noted or {}
    batch.noted[account] = batch.seq_text .. '.' .. (i - 1)
  end

  -- o: opens an account with a balance of 0 in one currency. detail: '<overdraft, or ->', then '<' and the maximum
  -- balance if there is one.
  rules[OPEN_ACCOUNT] = function(i, ledger, account, detail)
--@extended     local limit, most = match(detail, '^([%d-]+)<(%d+)$')
--@extended     detail = limit or detail
--@extended     if most and tonumber(most) > AMOUNT_MAX then return nil end
    local limit_ok = detail == '-' or (find(detail, '^%d+$') and tonumber(detail) <= AMOUNT_MAX)
    if not ledger or not limit_ok then return nil end
    if balance(ledger, i, account) then
      if detail ~= '-' and tonumber(detail) ~= limit_of(batch.flags, account, ledger.currency) then return CONFLICT end
--@extended       if most and not find((batch.flags[account] or '') .. ' ', ' ' .. ledger.currency .. '<' .. most .. ' ', 1, true) then
--@extended         return CONFLICT
--@extended       end
      return REPEATED
    end
    if status_of(batch.flags, account) == 'C' then return CLOSED end
    local written, n = ledger.written, ledger.written_count
    ledger.known[account], batch.effect = 0, true
    written[n + 1], written[n + 2], ledger.written_count = account, '0', n + 2
    if detail ~= '-' and tonumber(detail) > 0 then
--@plain       batch.flags[account] = (batch.flags[account] or 'A') .. ' ' .. ledger.currency .. '=' .. detail
--@extended       batch.flags[account] = with_limit(batch.flags[account] or 'A', ledger.currency, '=', detail)
      batch.flags_new[account], batch.flags_exist = batch.flags[account], true
    end
--@extended     if most then
--@extended       batch.flags[account] = with_limit(batch.flags[account] or 'A', ledger.currency, '<', most)
--@extended       batch.flags_new[account], batch.flags_exist, batch.limited = batch.flags[account], true, true
--@extended     end
    keep_place(i, account)
    return APPLIED
  end
