  -- Holds: records as wallet_engine/domain/holds.py has them. What a batch needs of them is read before its first operation is
  -- decided, and written behind the last, each key once. batch.holds: field -> hold; one that no rule has looked at is what was
  -- read of it, a text or false.
  local HOLD_LIMIT_OPEN, HOLD_LIMIT_CAPTURES, COUNT_OF, ENDED = 1000, 50, '#', 'h'
  local RECORD = '^(%u) (%S+) (%S+) (%S+) (%d+)() (%d+) (%d+) (%d+)() (%d+) %S+ %S+ ()(%S+)()'
  -- What a kind needs: where its hold is named (in the field of the operation, in its detail, or where such a pattern finds
  -- it there), whether it may change how many are open, whether it always looks at what is held; and whether the hold is told.
  local IN_FIELD, IN_DETAIL, IN_WORDS, AT_END = '', '-', '^[^|]*|([^|]*)', '|(%S+)$'
  local NEEDS = {
    [HOLD] = {IN_FIELD, true, true, true}, [VOID] = {IN_FIELD, true, true, true}, [EXPIRE] = {IN_FIELD, true, true, false},
    [INCREASE] = {IN_DETAIL, false, true, true}, [CAPTURE] = {IN_WORDS, true, true, true},
    [CAPTURE_DEBIT] = {IN_WORDS, false, true, false}, [UNCAPTURE] = {AT_END, false, true, false},
    [FINISH_HOLD] = {AT_END, true, false, true},
  }

  -- Reads the holds, how many are open and what is held. account_at, detail_at: where accounts and details begin.
  function read_holds(account_at, detail_at)
    local columns, kinds, ledgers = batch.columns, batch.kinds, batch.ledgers
    local currencies = type(columns[2]) == 'table' and columns[2]
    local holds, hold_fields, names, n, counters, c = {}, {}, {}, 0, {}, 0
    local receivers
    for i = 1, batch.count do
      local kind = kinds[i]
      if kind ~= TRANSFER and kind ~= DEBIT and kind ~= SETTLE then detail_at = detail_at + 1 end
      local needs = NEEDS[kind]
      if needs then
        local where, account, detail = needs[1], columns[account_at + i], columns[detail_at]
        local field = where == IN_FIELD and columns[FIELD + i] or where == IN_DETAIL and detail or match(detail, where)
        local ledger = ledgers[currencies and currencies[i] or columns[2]]
        if field then
          n = n + 1
          names[n], hold_fields[i] = field, field
        end
        if needs[2] then
          c = c + 1
          counters[c] = COUNT_OF .. account
        end
        if ledger then
          local wanted = ledger.wanted
          if needs[3] then wanted[#wanted + 1] = account end
          if kind == CAPTURE then
            local to = match(detail, '^[^|]+')
            if to and ledger.read[to] == nil then
              receivers, ledger.getting = receivers or {}, ledger.getting or {}
              receivers[#receivers + 1], ledger.getting[#ledger.getting + 1] = to, to
            end
          end
        end
      end
    end
    for m = 1, c do names[n + m] = counters[m] end
    local read = n + c > 0 and call('HMGET', batch.k_hold, unpack(names, 1, n + c))
    local counts, missing, m = {}, {}, 0
    for k = 1, n do
      local name = names[k]
      holds[name] = read[k]
      if not read[k] then
        m = m + 1
        missing[m] = ENDED .. name
      end
    end
    for k = 1, c do counts[counters[k]] = (read[n + k] or 0) + 0 end
    if m > 0 then
      local now = call('HMGET', batch.k_seen, unpack(missing))
      local before = batch.window_asked > 1 and call('HMGET', batch.k_seen_before, unpack(missing))
      for k = 1, m do holds[sub(missing[k], #ENDED + 1)] = now[k] or before and before[k] end
    end
    for _, each in pairs(ledgers) do
      local wanted, getting = each.wanted, each.getting
      if wanted[1] then
        local minors = call('HMGET', each.k_held, unpack(wanted))
        for k = 1, #wanted do each.held_before[wanted[k]] = (minors[k] or 0) + 0 end
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
    batch.holds, batch.hold_fields, batch.holds_changed, batch.counts, batch.counts_changed = holds, hold_fields, {}, counts, {}
  end

  -- The hold of a field: from this batch, open, or ended and still remembered; nil where there is none.
  local function hold_of(field)
    local hold = batch.holds[field]
    if type(hold) ~= 'string' then return hold or nil end
    local status, account, to, currency, amount, head_end, captured, released, captures, middle, expires_ms, busy_at, busy, tail =
      match(hold, RECORD)
    hold = {status = status, account = account, to = to, currency = currency, amount = amount + 0, captured = captured + 0,
      released = released + 0, captures = captures + 0, expires_ms = expires_ms + 0, busy = busy, stored = status == 'O', text = hold,
      head = sub(hold, 2, head_end - 1), middle = sub(hold, middle, busy_at - 1), tail = sub(hold, tail)}
    batch.holds[field] = hold
    return hold
  end

  local function number(value) return value == 0 and '0' or format('%d', value) end

  -- What does not change is kept as text: account, to, currency and amount in `head`, what follows the numbers of captures,
  -- up to `busy`, in `middle`, the reference in `tail`.
  local function hold_text(hold)
    hold.text = hold.status .. hold.head .. ' ' .. number(hold.captured) .. ' ' .. number(hold.released) .. ' '
      .. number(hold.captures) .. hold.middle .. hold.busy .. hold.tail
    return hold.text
  end

  local function head_of(account, to, currency, amount)
    return ' ' .. account .. ' ' .. to .. ' ' .. currency .. ' ' .. format('%d', amount)
  end

  local function change(field, hold)
    batch.holds[field], batch.holds_changed[field], batch.effect = hold, true, true
  end

  local function remaining(hold) return hold.amount - hold.captured - hold.released end

  local function open_count(account) return batch.counts[COUNT_OF .. account] end

  local function count_open(account, delta)
    local counter, counts = COUNT_OF .. account, batch.counts
    counts[counter] = (counts[counter] or (call('HGET', batch.k_hold, counter) or 0) + 0) + delta
    batch.counts_changed[counter] = true
  end

  -- Whether what is left of a hold can go back: what came in meanwhile may leave no room in a number.
  local function has_room(hold, minor)
    return minor == 0 or (available(batch.ledgers[hold.currency], hold.account) or 0) + minor <= AMOUNT_MAX
  end

  -- What is left of a hold goes back, and the hold ends.
  local function finish_hold(field, hold, status)
    local ledger, rest = batch.ledgers[hold.currency], remaining(hold)
    if rest > 0 then
      post(ledger, hold.account, available(ledger, hold.account), rest)
      shift_held(ledger, hold.account, -rest)
    end
    hold.released, hold.status, hold.busy = hold.released + rest, status, '-'
    count_open(hold.account, -1)
    change(field, hold)
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
    local status = status_of(batch.flags, account)
    if status == 'C' then return CLOSED end
    if status == 'F' then return FROZEN end
    return nil
  end

  -- The first refusal of what needs an open hold, and the hold.
  local function hold_refusal(field, account)
    local hold = hold_of(field)
    if not hold or hold.account ~= account then return HOLD_NOT_FOUND end
    if hold.status == 'X' then return HOLD_EXPIRED end
    if hold.status ~= 'O' then return HOLD_NOT_OPEN end
    if hold.busy ~= '-' then return HOLD_BUSY end
    if batch.now_ms >= hold.expires_ms then return HOLD_EXPIRED end
    return nil, hold
  end

  function write_holds()
    local kept, k, gone, g, due, d = {}, 0, {}, 0, {}, 0
    for field in pairs(batch.holds_changed) do
      local hold = batch.holds[field]
      if hold.status == 'O' then
        kept[k + 1], kept[k + 2], k = field, hold_text(hold), k + 2
        if not hold.stored then due[d + 1], due[d + 2], d = format('%d', hold.expires_ms), field, d + 2 end
      else
        if hold.stored then
          g = g + 1
          gone[g] = field
        end
        record(ENDED .. field, hold_text(hold)) -- remembered as long as transfers
      end
    end
    for counter in pairs(batch.counts_changed) do
      kept[k + 1], kept[k + 2], k = counter, format('%d', batch.counts[counter]), k + 2
    end
    if k > 0 then call('HSET', batch.k_hold, unpack(kept, 1, k)) end
    if d > 0 then call('ZADD', batch.k_due, unpack(due, 1, d)) end
    if g > 0 then
      call('HDEL', batch.k_hold, unpack(gone, 1, g))
      call('ZREM', batch.k_due, unpack(gone, 1, g))
    end
  end

  -- What is told of the operations that were applied, and of each that asked for a hold's end: '<idx> <record>'.
  function tell_holds(outcomes, lines)
    for i, field in pairs(batch.hold_fields) do
      local kind, hold = batch.kinds[i], batch.holds[field]
      if NEEDS[kind][4] and type(hold) == 'table' and (outcomes[i] == APPLIED or kind == FINISH_HOLD) then
        lines[#lines + 1] = (i - 1) .. ' ' .. hold.text
      end
    end
  end
