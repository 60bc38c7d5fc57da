  -- Reading balances in several currencies: for each currency only the accounts of its operations. To read all accounts
  -- in each would take currencies times accounts fields.
  local everywhere, named, other = {}, {}, count -- positions among the accounts: for every currency, by currency
  for i = 1, count do
    local kind = kinds[i]
    if kind ~= SETTLE then
      local own = everywhere
      if kind ~= SET_FLAGS and kind ~= PROBE then
        local currency = currency_each and currency_each[i] or currencies
        own = named[currency]
        if not own then
          own = {}
          named[currency] = own
        end
      end
      own[#own + 1] = i
      if kind == TRANSFER and other < account_count then
        other = other + 1
        own[#own + 1] = other
      end
    end
  end

  function values_in(key, currency)
    local own, accounts, n = named[currency] or {}, {}, 0
    for m = 1, #own do accounts[m] = columns[ACCOUNT + own[m]] end
    n = #own
    for m = 1, #everywhere do accounts[n + m] = columns[ACCOUNT + everywhere[m]] end
    accounts[n + #everywhere + 1] = TRANSIT
    local read, values = call('HMGET', key, unpack(accounts)), {}
    for m = 1, n do values[own[m]] = read[m] end
    for m = 1, #everywhere do values[everywhere[m]] = read[n + m] end
    values[account_count + 1] = read[#accounts]
    return values
  end
