  -- r: gives back money whose credit was refused; the remembered answer becomes the decline. Frozen accounts too.
  rules[REFUND] = function(i, ledger, account, detail, minor)
    local entry_seq, idx, decline = match(detail, '^(%d+)%.(%d+)%.(%l)$')
    if not entry_seq or not ledger or account == TRANSIT or minor < 1 or minor > AMOUNT_MAX or minor % 1 ~= 0 then
      return nil
    end
    local part = entry_seq .. '.' .. idx
    if batch.settled[entry_seq] or batch.refunded[part] then return REPEATED end
    if not call('ZSCORE', batch.k_open, entry_seq) or call('ZSCORE', batch.k_open, part) then return REPEATED end
    local have = balance(ledger, i, account) or 0
    if have + minor > AMOUNT_MAX and (batch.rules_before or byte(account) ~= SYSTEM)
      or batch.rules_before and ledger.transit - minor < AMOUNT_MIN then
      return BALANCE_LIMIT
    end
    post(ledger, account, have, minor)
    post_transit(ledger, -minor)
    batch.refunded[part] = entry_seq
    rewrite(i, decline, entry_seq, idx)
    return APPLIED
  end
