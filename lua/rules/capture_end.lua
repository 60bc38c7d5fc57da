  -- u: the receiver elsewhere refused: the hold is as it was, or, if it has ended meanwhile, the money is available again.
  -- detail: '<seq>.<idx>.<decline>|<field of the hold>'.
  rules[UNCAPTURE] = function(i, ledger, account, detail, minor)
    local entry_seq, idx, decline = match(detail, '^(%d+)%.(%d+)%.(%l)|%S+$')
    if not entry_seq or not ledger or minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then return nil end
    local part = entry_seq .. '.' .. idx
    if batch.settled[entry_seq] or batch.refunded[part] then return REPEATED end
    if not call('ZSCORE', batch.k_open, entry_seq) or call('ZSCORE', batch.k_open, part) then return REPEATED end
    local field, have = fields[i], available(ledger, account) or 0
    local text = holds[field]
    local status, _, _, _, _, head_end, captured, released, captures, middle, _, busy_at, busy, tail = match(text or '', RECORD)
    if status == 'O' then
      if held(ledger, account) + minor > AMOUNT_MAX then return BALANCE_LIMIT end
      shift_held(ledger, account, minor)
      if busy == part then busy = '-' end
    else
      if have + minor > AMOUNT_MAX then return BALANCE_LIMIT end
      post(ledger, account, have, minor)
      if status then released = number(released + minor) end
    end
    post_transit(ledger, -minor)
    batch.refunded[part], batch.effect = entry_seq, true
    if status then
      captured, captures = number(captured - minor), number(captures - 1)
      keep(field, rewritten(text, status, head_end, captured, released, captures, middle, busy_at, busy, tail))
    end
    rewrite(i, decline)
    return APPLIED
  end

  -- l: a final capture was received: the rest of its hold is available again. detail: '<seq>.<idx>|<field of the hold>'.
  rules[FINISH_HOLD] = function(i, ledger, _, detail)
    local part = match(detail, '^(%d+%.%d+)|%S+$')
    if not part then return nil end
    local status, holder, _, currency, amount, head_end, captured, released, captures, middle, _, busy_at, busy, tail =
      match(holds[fields[i]] or '', RECORD)
    if status ~= 'O' or busy ~= part then return REPEATED end
    return finish_hold(i, ledger, 'C', holder, currency, amount, head_end, captured, released, captures, middle, busy_at, tail)
  end
