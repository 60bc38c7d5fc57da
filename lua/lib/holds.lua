  -- Holds: records as wallet_engine/domain/holds.py has them, texts here, too. What a batch needs of them is read before its
  -- first operation is decided, and written behind the last, each key once.
  local fields, counters -- of the partition at hand, by position: of an operation's hold; of how many its account has open
  local holds, holds_changed -- field -> record as this batch has left it, false where there is none; which are changed
  local counts, counts_changed -- how many are open; which are changed
  local due, due_count -- what `due` gets, alternating: when a new hold expires, its field
  local HOLD_LIMIT_OPEN, HOLD_LIMIT_CAPTURES, COUNT_OF, ENDED, OPEN = 1000, 50, '#', 'h', 79 -- 'O', an open hold's status
  local RECORD = '^(%u) (%S+) (%S+) (%S+) (%d+)() (%d+) (%d+) (%d+)() (%d+) %S+ %S+ ()(%S+)()'
  -- Where the detail of a kind names the hold: as a whole, or where such a pattern finds it. Of the others it is the field.
  local NAMED = {[INCREASE] = '^(%S+)$', [CAPTURE] = '^[^|]*|([^|]*)', [CAPTURE_DEBIT] = '^[^|]*|([^|]*)',
    [UNCAPTURE] = '|(%S+)$', [FINISH_HOLD] = '|(%S+)$'}
  -- Which may change how many are open.
  local COUNTED = {[HOLD] = true, [CAPTURE] = true, [FINISH_HOLD] = true, [VOID] = true, [EXPIRE] = true}
  -- Behind which the hold is told.
  local TOLD = {[HOLD] = true, [INCREASE] = true, [CAPTURE] = true, [FINISH_HOLD] = true, [VOID] = true}

  -- Those of the names that are not open, of which the memory may have the end.
  local function read_ended(names, n)
    local missing, of, m = {}, {}, 0
    for k = 1, n do
      local name = names[k]
      if not holds[name] then
        m = m + 1
        missing[m], of[m] = ENDED .. name, name
      end
    end
    if m == 0 then return end
    local now = call('HMGET', batch.k_seen, unpack(missing, 1, m))
    local before = batch.window_asked > 1 and call('HMGET', batch.k_seen_before, unpack(missing, 1, m))
    for k = 1, m do holds[of[k]] = now[k] or before and before[k] end
  end

  -- Reads the holds, how many are open and what is held. account_at, detail_at: where accounts and details begin.
  function read_holds(account_at, detail_at)
    local columns, kinds, ledgers = batch.columns, batch.kinds, batch.ledgers
    local currencies = type(columns[2]) == 'table' and columns[2]
    local ledger = ledgers[columns[2]]
    local names, n, counted, c, receivers = {}, 0, {}, 0, nil
    fields, counters, holds, holds_changed, counts, counts_changed, due, due_count = {}, {}, {}, {}, {}, {}, {}, 0
    for i = 1, batch.count do
      local kind = kinds[i]
      if kind ~= TRANSFER and kind ~= DEBIT and kind ~= SETTLE then detail_at = detail_at + 1 end
      local pattern, counting = NAMED[kind], COUNTED[kind]
      if pattern or counting then
        local account, field = columns[account_at + i], columns[FIELD + i]
        if pattern then field = match(columns[detail_at], pattern) end
        if field then
          n = n + 1
          names[n], fields[i] = field, field
        end
        if counting then
          c = c + 1
          local counter = COUNT_OF .. account
          counted[c], counters[i] = counter, counter
        end
        if currencies then ledger = ledgers[currencies[i]] end
        if ledger and kind ~= FINISH_HOLD then
          local wanted = ledger.wanted
          wanted[#wanted + 1] = account
          if kind == CAPTURE then
            local to = match(columns[detail_at], '^[^|]+')
            if to and ledger.read[to] == nil then
              receivers, ledger.getting = receivers or {}, ledger.getting or {}
              receivers[#receivers + 1], ledger.getting[#ledger.getting + 1] = to, to
            end
          end
        end
      end
    end
    for m = 1, c do names[n + m] = counted[m] end
    local read = n + c > 0 and call('HMGET', batch.k_hold, unpack(names, 1, n + c))
    for k = 1, n do holds[names[k]] = read[k] end
    for k = 1, c do counts[counted[k]] = (read[n + k] or 0) + 0 end
    read_ended(names, n)
    for _, each in pairs(ledgers) do
      local wanted, getting = each.wanted, each.getting
      if wanted[1] then
        local minors, held_before = call('HMGET', each.k_held, unpack(wanted)), each.held_before
        for k = 1, #wanted do held_before[wanted[k]] = (minors[k] or 0) + 0 end
      end
      if getting then
        local minors = call('HMGET', each.key, unpack(getting))
        for k = 1, #getting do each.read[getting[k]] = minors[k] end
      end
    end
    if receivers and batch.flags_exist then
      local found = call('HMGET', batch.k_flags, unpack(receivers))
      for k = 1, #receivers do batch.flags[receivers[k]] = found[k] or nil end
    end
  end

  local function keep(field, text)
    holds[field], holds_changed[field], batch.effect = text, true, true
  end

  local function number(value) return value == 0 and '0' or format('%d', value) end

  -- The record `text` with other words, texts all, and without a change in those that are not given; the rest are places in it,
  -- as RECORD finds them.
  local function rewritten(text, status, head_end, captured, released, captures, middle, busy_at, busy, tail)
    return status .. sub(text, 2, head_end) .. captured .. ' ' .. released .. ' ' .. captures
      .. sub(text, middle, busy_at - 1) .. busy .. sub(text, tail)
  end

  local function count_open(counter, delta) counts[counter], counts_changed[counter] = counts[counter] + delta, true end

  -- Whether what is left of a hold can go back: what came in meanwhile may leave no room in a number.
  local function has_room(ledger, account, minor)
    return minor == 0 or (available(ledger, account) or 0) + minor <= AMOUNT_MAX
  end

  -- What is left of a hold goes back.
  local function release(ledger, account, minor)
    if minor == 0 then return end
    post(ledger, account, available(ledger, account), minor)
    shift_held(ledger, account, -minor)
  end

  -- The open hold of operation i ends, and what remains of it is available again, if there is room for it. What it is given:
  -- as RECORD finds it.
  local function finish_hold(i, ledger, status, holder, currency, amount, head_end, captured, released, captures, middle, busy_at, tail)
    if not ledger or ledger.currency ~= currency then return STALE end
    local field, rest = fields[i], amount - captured - released
    if not has_room(ledger, holder, rest) then return BALANCE_LIMIT end
    if rest > 0 then
      release(ledger, holder, rest)
      released = number(released + rest)
    end
    count_open(counters[i], -1)
    keep(field, rewritten(holds[field], status, head_end, captured, released, captures, middle, busy_at, '-', tail))
    return APPLIED
  end

  local function known_here(i, ledger, account)
    if ledger and balance(ledger, i, account) then return true end
    for _, each in pairs(batch.ledgers) do
      if each.known[account] then return true end
    end
    for currency in gmatch(batch.currencies_known, '[^,]+') do
      if call('HGET', 'balance:' .. currency .. batch.tag, account) then return true end
    end
    return false
  end

  -- The first refusal of a payer whose hold is concerned, nil if there is none.
  local function holder_refusal(i, ledger, account)
    if not known_here(i, ledger, account) then return UNKNOWN_ACCOUNT end
    local flag = batch.flags[account]
    if not flag then return nil end
    local status = sub(flag, 1, 1)
    return status == 'C' and CLOSED or status == 'F' and FROZEN or nil
  end

  -- The first refusal of what needs an open hold; `holder` is nil where there is no hold.
  local function hold_refusal(account, status, holder, expires_ms, busy)
    if holder ~= account then return HOLD_NOT_FOUND end
    if status == 'X' then return HOLD_EXPIRED end
    if status ~= 'O' then return HOLD_NOT_OPEN end
    if busy ~= '-' then return HOLD_BUSY end
    if batch.now_ms >= expires_ms + 0 then return HOLD_EXPIRED end
    return nil
  end

  function write_holds()
    local kept, k, gone, g = {}, 0, {}, 0
    for field in pairs(holds_changed) do
      local text = holds[field]
      if byte(text) == OPEN then
        kept[k + 1], kept[k + 2], k = field, text, k + 2
      else
        g = g + 1
        gone[g] = field
        record(ENDED .. field, text) -- remembered as long as transfers
      end
    end
    for counter in pairs(counts_changed) do
      kept[k + 1], kept[k + 2], k = counter, format('%d', counts[counter]), k + 2
    end
    if k > 0 then call('HSET', batch.k_hold, unpack(kept, 1, k)) end
    if due_count > 0 then call('ZADD', batch.k_due, unpack(due, 1, due_count)) end
    if g > 0 then
      call('HDEL', batch.k_hold, unpack(gone, 1, g))
      call('ZREM', batch.k_due, unpack(gone, 1, g))
    end
  end

  -- What is told of the operations that were applied, and of each that asked for a hold's end: '<idx> <record>'.
  function tell_holds(outcomes, lines)
    local kinds, n = batch.kinds, #lines
    for i, field in pairs(fields) do
      local kind = kinds[i]
      if TOLD[kind] and (sub(outcomes, i, i) == APPLIED or kind == FINISH_HOLD and holds[field]) then
        n = n + 1
        lines[n] = (i - 1) .. ' ' .. holds[field]
      end
    end
  end
