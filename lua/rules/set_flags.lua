  -- f: freeze, unfreeze, close. To be closed, an account must have, hold and expect 0 in all ledgers (all are there),
  -- and no money may be able to come back to it. So no entry of the partition may be open; for `close.<seq>`, none up
  -- to seq: that entry had a `closing`, which froze the account and left seq in its flags, and the account has stayed
  -- frozen. `reopen.<seq>` undoes that freeze, unless somebody has frozen or unfrozen the account since.
  rules[SET_FLAGS] = function(i, _, account, detail)
    local verb, since = match(detail, '^(%l+)%.(%d+)$')
    verb = verb or detail
    local status = ({freeze = 'F', unfreeze = 'A', close = 'C', closing = 'F', reopen = 'A'})[verb]
    if not status or since and verb ~= 'close' and verb ~= 'reopen' or verb == 'reopen' and not since then return nil end
    local held, empty = false, true
    for _, each in pairs(batch.ledgers) do
      local minor_held = balance(each, i, account)
      if minor_held then
        held = true
        if minor_held ~= 0 then empty = false end
      end
    end
    if not held then return UNKNOWN_ACCOUNT end
    local flag = batch.flags[account] or 'A'
    local status_now, before, closing, limits = sub(flag, 1, 1), match(flag, '^F ([AF])=(%d+)(.*)$')
    limits = limits or sub(flag, 2)
    if status_now == 'C' then return verb == 'close' and REPEATED or CLOSED end
    if verb == 'reopen' then
      if closing ~= since then return REPEATED end
      status = before
    elseif verb == 'close' then
      local set_aside, coming = false, false
      for _, each in pairs(batch.ledgers) do
        set_aside = set_aside or (each.held[account] or call('HGET', each.k_held, account) or 0) + 0 ~= 0
        coming = coming or (each.pending[account] or call('HGET', each.k_pending, account) or 0) + 0 ~= 0
      end
      if not empty or set_aside then return BALANCE_NOT_ZERO end
      if coming then return OPERATIONS_PENDING end
      if not batch.rules_before and (since and closing ~= since or not since and batch.debited
        or call('ZRANGEBYSCORE', batch.k_open, 0, since or '+inf', 'LIMIT', 0, 1)[1]) then
        return OPERATIONS_PENDING
      end
    elseif verb == 'closing' then
      status = 'F ' .. (before or status_now) .. '=' .. batch.seq_text
    elseif status_now == status and not closing then
      return REPEATED
    end
    batch.flags[account] = status .. limits
    batch.flags_new[account], batch.flags_exist, batch.effect = batch.flags[account], true, true
    return APPLIED
  end
