  -- u: undoes a capture that the receiver elsewhere refused: the money returns to the hold, or is available again if
  -- the hold has ended meanwhile. detail: '<seq>.<idx>.<decline>|<field of the hold>'. A hold placed after that entry is
  -- another one, whose id had been forgotten; rules before 5 took it for the same.
  rules[UNCAPTURE] = function(i, ledger, account, detail, minor)
    local k, field, text = next_hold()
    local entry_seq, idx, decline = match(detail, '^(%d+)%.(%d+)%.(%l)|%S+$')
    if not entry_seq or not ledger or minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then return nil end
    local part = entry_seq .. '.' .. idx
    if batch.settled[entry_seq] or batch.refunded[part] then return REPEATED end
    if not call('ZSCORE', batch.k_open, entry_seq) or call('ZSCORE', batch.k_open, part) then return REPEATED end
    local have = available(ledger, account) or 0
    local status, _, _, _, _, head_end, captured, released, captures, middle, _, busy_at, busy, tail = match(text or '', RECORD)
    local is_later = status and match(sub(text, middle, busy_at - 1), '(%d+)%.%d+ $') + 0 > entry_seq + 0
--@replay     is_later = is_later and batch.rules > 4
    if is_later then status = nil end
    if status == 'O' then
      local aside = held_of(k, ledger, account) + minor
      if aside > AMOUNT_MAX then return BALANCE_LIMIT end
      ledger.held[account] = aside
      if busy == part then busy = '-' end
    else
      if have + minor > AMOUNT_MAX then return BALANCE_LIMIT end
      post(ledger, account, have, minor)
      if status then released = released + minor end
    end
    post_transit(ledger, -minor)
    batch.refunded[part], batch.effect = entry_seq, true
    if status then
      holds[field] = rewritten(text, status, head_end, captured - minor, released, captures - 1, middle, busy_at, busy, tail)
    end
    rewrite(i, decline, entry_seq, idx)
    return APPLIED
  end

  -- l: ends a hold whose final capture was received: its rest is available again.
  -- detail: '<seq>.<idx>|<field of the hold>'.
  local CAPTURED_WHOLE = '^O %S+ %S+ (%S+) (%d+) %2 0 %d+ %d+ %S+ %S+ ()' -- nothing is left; where `busy` is

  rules[FINISH_HOLD] = function(i, ledger, _, detail)
    local k, field, text = next_hold()
    local part = match(detail, '^(%d+%.%d+)|.')
    if not part then return nil end
    text = text or ''
    local currency, _, busy_at = match(text, CAPTURED_WHOLE)
    if busy_at and ledger and ledger.currency == currency and find(text, part, busy_at, true) == busy_at then
      local tail = busy_at + #part
      if tail > #text or byte(text, tail) == SPACE then
        count_one_less(k)
        holds[field], told[i] = 'C' .. sub(text, 2, busy_at - 1) .. '-' .. sub(text, tail), field
        batch.effect = true
        return APPLIED
      end
    end
    local status, holder, _, currency, amount, head_end, captured, released, captures, middle, _, busy_at, busy, tail =
      match(text, RECORD)
    local outcome = REPEATED
    if status == 'O' and busy == part then
      outcome = finish_hold(i, k, ledger, text, 'C', holder, currency, amount, head_end, captured, released, captures, middle, busy_at,
        tail)
    end
    if status then
      told[i], unchanged[field] = field, text
    end
    return outcome
  end
