  -- a: changes the limits of an open account; its note is journaled. The balance stays, even if it is outside the new
  -- limits. detail: '<overdraft, or ->|<maximum balance, or ->'.
  rules[SET_LIMITS] = function(i, ledger, account, detail)
    local overdraft, most = match(detail, '^([%d-]+)|([%d-]+)$')
    for _, text in ipairs({overdraft or '', most or ''}) do
      if text ~= '-' and not (find(text, '^%d+$') and tonumber(text) <= AMOUNT_MAX) then return nil end
    end
    if not ledger then return nil end
    if not balance(ledger, i, account) then return UNKNOWN_ACCOUNT end
    if status_of(batch.flags, account) == 'C' then return CLOSED end
    keep_place(i, account)
    local flag = batch.flags[account] or 'A'
    local after = flag
    if overdraft ~= '-' and tonumber(overdraft) ~= limit_of(batch.flags, account, ledger.currency) then
      after = with_limit(after, ledger.currency, '=', overdraft)
    end
    if most ~= '-' then after = with_limit(after, ledger.currency, '<', most) end
    if after == flag and not (batch.notes and batch.notes[i - 1 .. '']) then return REPEATED end
    batch.effect = true
    if after ~= flag then
      batch.flags[account], batch.flags_new[account], batch.flags_exist = after, after, true
      batch.limited = batch.limited or most ~= '-'
    end
    return APPLIED
  end
