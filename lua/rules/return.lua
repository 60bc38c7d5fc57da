  -- x: returns money of a transfer from its receiver to its payer here; z: to its payer elsewhere, through @transit.
  -- detail: '<payer>|<field of the original>|<p>.<seq>.<idx> of it|<how>|<its minor>|<amount asked for, or ->'; how: l,
  -- c, m, y<mark> or s<window>.<total>; minor: that amount, or for - the rest that the service has seen.
  local function give_back(i, ledger, account, detail, minor, here)
    local to, field, origin, seq, idx, how, mark, whole, asked =
      match(detail, '^([^|]+)|([^|]+)|(%d+)%.(%d+)%.(%d+)|([lcmys])([^|]*)|(%d+)|(%S+)$')
    if not to or not ledger or to == account or to == TRANSIT or account == TRANSIT or minor < 0 or minor > AMOUNT_MAX
      or minor % 1 ~= 0 or whole + 0 < 1 or whole + 0 > AMOUNT_MAX then
      return nil
    end
    local outcome, record_end = answered(i)
    if outcome then return outcome end
    local name = name_of_total(field, origin .. '.' .. seq .. '.' .. idx)
    local current, total = true, total_of(field, name)
    if how == STORED then -- the store's total is complete if no window was forgotten since
      local in_window, in_store = match(mark, '^(%d+)%.(%d+)$')
      if not in_window then return nil end
      if in_window + 0 ~= batch.window_asked then return STALE end
      total = math.max(total, in_store + 0)
    else
      current = window_of(field, origin, seq, idx + 0, how, mark)
      if current == nil then return TRANSFER_FORGOTTEN end
    end
    local rest = whole - total
    if asked == '-' and minor ~= rest then return STALE end -- another refund was made in between
    if minor < 1 and rest > 0 then return nil end
    local have, have_to = available(ledger, account), here and available(ledger, to) or nil
    if minor > rest or rest < 1 then
      outcome = REFUND_EXCEEDS
    else
      if here then look_up_flags(to) end
      outcome = side_refusal(batch.flags, account, have, here and to or nil, have_to)
      if not outcome and byte(account) ~= SYSTEM and have - minor < -limit_of(batch.flags, account, ledger.currency) then
        outcome = INSUFFICIENT_FUNDS
      end
      if not outcome and here and byte(to) ~= SYSTEM and have_to + minor > AMOUNT_MAX then outcome = BALANCE_LIMIT end
      if not outcome and here and over_limit(batch.flags, ledger, to, (have_to or 0) + minor) then outcome = BALANCE_LIMIT end
    end
    if outcome then
      remember(i, outcome, record_end)
      return outcome
    end
    post(ledger, account, have or 0, -minor)
    if here then
      post(ledger, to, have_to or 0, minor)
    else
      post_transit(ledger, minor)
      batch.debited = true
    end
    raise_total(current, field, name, total, minor)
    remember(i, RETURN_RECORD, record_end)
    return APPLIED
  end

  rules[RETURN] = function(i, ledger, account, detail, minor)
    return give_back(i, ledger, account, detail, minor, true)
  end

  rules[RETURN_DEBIT] = function(i, ledger, account, detail, minor)
    return give_back(i, ledger, account, detail, minor, false)
  end

  -- j: undoes a return that the payer elsewhere refused: the receiver gets the money back. That much of the original
  -- can be refunded again, if it is still remembered. Frozen accounts too.
  -- A total of an id counts the return if it was kept no later than in the window of the return's own record, or if such
  -- a total was there when it was begun. Others are of another original, whose id had been forgotten; rules before 5
  -- lowered them too.
  -- detail: '<seq>.<idx>.<decline>|<field of the original>|<place of it>'; programs of rules before 6 say no place.
  rules[UNRETURN] = function(i, ledger, account, detail, minor)
    local entry_seq, idx, decline, words = match(detail, '^(%d+)%.(%d+)%.(%l)|(%S+)$')
    if not entry_seq or not ledger or account == TRANSIT or minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then
      return nil
    end
    local part = entry_seq .. '.' .. idx
    if batch.settled[entry_seq] or batch.refunded[part] then return REPEATED end
    if not call('ZSCORE', batch.k_open, entry_seq) or call('ZSCORE', batch.k_open, part) then return REPEATED end
    local have = available(ledger, account) or 0
    if have + minor > AMOUNT_MAX and byte(account) ~= SYSTEM then return BALANCE_LIMIT end
    post(ledger, account, have, minor)
    post_transit(ledger, -minor)
    batch.refunded[part] = entry_seq
    local current = rewrite(i, decline, entry_seq, idx)
    local field, place = match(words, '^([^|]+)|(%d+%.%d+%.%d+)$')
    if not field then field = words end
--@replay     if batch.rules < 6 then field, place = words, nil end
    local counted = current or current == false and total_in(false, field)
--@replay     counted = counted or batch.rules < 5
    if place then lower_total(name_of_total(field, place), minor, false) end
    local is_marked = true
--@replay     is_marked = batch.rules > 5
    if counted then lower_total(field, minor, is_marked) end
    return APPLIED
  end
