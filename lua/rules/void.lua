  -- v: ends a hold; its rest is available again. Frozen accounts too. The field is that of the hold.
  rules[VOID] = function(i, ledger, account)
    local k, field, text = next_hold()
    if not known_here(i, ledger, account) then return UNKNOWN_ACCOUNT end
    if not text then return HOLD_NOT_FOUND end
    local status, holder, _, currency, amount, head_end, captured, released, captures, middle, expires_ms, busy_at, busy, tail =
      words_of_hold(text, account)
    if status == 'C' then return HOLD_NOT_OPEN end
    if status ~= 'O' then return REPEATED end
    if busy ~= '-' then return HOLD_BUSY end
    status = batch.now_ms >= expires_ms + 0 and 'X' or 'V'
    local outcome = finish_hold(i, k, ledger, text, status, holder, currency, amount, head_end, captured, released, captures, middle,
      busy_at, tail)
    if outcome == APPLIED then told[i] = field end
    return outcome
  end

  -- e: the same, once the hold has expired.
  rules[EXPIRE] = function(i, ledger)
    local k, _, text = next_hold()
    local status, holder, _, currency, amount, head_end, captured, released, captures, middle, expires_ms, busy_at, busy, tail =
      match(text or '', RECORD)
    if status ~= 'O' or busy ~= '-' or batch.now_ms < expires_ms + 0 then return REPEATED end
    return finish_hold(i, k, ledger, text, 'X', holder, currency, amount, head_end, captured, released, captures, middle, busy_at,
      tail)
  end
