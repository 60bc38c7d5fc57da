  -- Holds: records are texts, as in wallet_engine/domain/holds.py. What a batch needs of them is read before its first
  -- operation is decided, and written after the last, each key once.
  -- The state of the current partition. k numbers the operations of holds; they are decided in the order in which they
  -- were read. number_at: the last k decided. places: k -> position in `names` of the hold's field, and in `hold_read`
  -- of its record; if COUNTED[kind], the next position is that of the account's count of open holds. held_at, got_at:
  -- k -> position of the account in the ledger's `held_read`, of the receiver in its `got`.
  local number_at, places, held_at, got_at
  local names, hold_read
  local ended_at, ended_now, ended_before -- position, then memory of the holds that are not open, in the order of k
  local holds, counts -- field -> record, counter -> number of open holds: only what this batch has changed
  local due, due_count -- arguments for ZADD: expiry and field of each new hold
  local told, unchanged -- position of an operation -> field of the hold to report; field -> record, if not in `holds`
  local start_placing
  local texts = {} -- number -> decimal text: most recur
  local HOLD_LIMIT_OPEN, HOLD_LIMIT_CAPTURES, COUNT_OF, ENDED, OPEN, SPACE = 1000, 50, '#', 'h', 79, 32 -- 79: 'O'
  local RECORD = '^(%u) (%S+) (%S+) (%S+) (%d+)() (%d+) (%d+) (%d+)() (%d+) %S+ %S+ ()(%S+)()'
  -- The same, after the account's name, for an open hold with nothing captured or released and no capture under way.
  local UNTOUCHED = '^ (%S+) (%S+) (%d+)() 0 0 0() (%d+) %S+ %S+ ()%-'
  -- The kinds of hold operations -> whether one may change the number of open holds.
  local COUNTED = {[HOLD] = true, [INCREASE] = false, [CAPTURE] = true, [CAPTURE_DEBIT] = false, [UNCAPTURE] = false,
    [FINISH_HOLD] = true, [VOID] = true, [EXPIRE] = true}

  -- Reads the memory of the holds that are not open: they may have ended.
  local function read_ended(count)
    local missing, n = {}, 0
    for k = 1, count do
      local place = places[k]
      if not hold_read[place] then
        n = n + 1
        missing[n] = ENDED .. names[place]
      end
    end
    if n == 0 then return end
    ended_now = call('HMGET', batch.k_seen, unpack(missing, 1, n))
    ended_before = batch.window_asked > 1 and call('HMGET', batch.k_seen_before, unpack(missing, 1, n))
  end

  -- Reads holds, counts of open holds and held amounts. account_at, detail_at: where accounts and details begin.
  function read_holds(account_at, detail_at)
    local columns, kinds, ledgers = batch.columns, batch.kinds, batch.ledgers
    local currencies = type(columns[2]) == 'table' and columns[2]
    local ledger = ledgers[columns[2]]
    local n, k, receivers = 0, 0, nil
    local TRANSFER, DEBIT, SETTLE, CAPTURE = TRANSFER, DEBIT, SETTLE, CAPTURE
    number_at, ended_at, places, held_at, got_at, names = 0, 0, {}, {}, {}, {}
    holds, counts, due, due_count, told, unchanged = {}, {}, {}, 0, {}, {}
    start_placing()
    for i = 1, batch.count do
      local kind = kinds[i]
      if kind ~= SETTLE and kind ~= TRANSFER and kind ~= DEBIT then detail_at = detail_at + 1 end
      local counted = COUNTED[kind]
      if counted ~= nil then
        local account, field = columns[account_at + i], columns[FIELD + i]
        if currencies then ledger = ledgers[currencies[i]] end
        k = k + 1
        if kind ~= HOLD and kind ~= VOID and kind ~= EXPIRE then -- their details name the hold
          local detail, to_end = columns[detail_at], nil
          if kind == CAPTURE or kind == CAPTURE_DEBIT then
            to_end = find(detail, '|', 1, true) or 0
            field = sub(detail, to_end + 1, (find(detail, '|', to_end + 1, true) or 0) - 1)
          elseif kind == INCREASE then
            field = detail
          else
            field = sub(detail, (find(detail, '|', 1, true) or 0) + 1)
          end
          if kind == CAPTURE and ledger then
            local to, getting = sub(detail, 1, to_end - 1), ledger.getting
            receivers = receivers or {}
            receivers[#receivers + 1] = to
            getting[#getting + 1] = to
            got_at[k] = #getting
          end
        end
        n = n + 1
        names[n], places[k] = field, n
        if counted then
          n = n + 1
          names[n] = COUNT_OF .. account
        end
        if ledger and kind ~= FINISH_HOLD then
          local m = ledger.wanted_count + 1
          ledger.wanted_count, ledger.wanted[m], held_at[k] = m, account, m
        end
      end
    end
    hold_read = call('HMGET', batch.k_hold, unpack(names, 1, n))
    read_ended(k)
    for _, each in pairs(ledgers) do
      if each.wanted_count > 0 then each.held_read = call('HMGET', each.k_held, unpack(each.wanted)) end
      if each.getting[1] then each.got = call('HMGET', each.key, unpack(each.getting)) end
    end
    if receivers and batch.flags_exist then
      local found = call('HMGET', batch.k_flags, unpack(receivers))
      for m = 1, #receivers do batch.flags[receivers[m]] = found[m] or nil end
    end
  end

  -- The next operation's k, field and record, as this batch has left it; the record is nil or false if there is none.
  local function next_hold()
    local k = number_at + 1
    number_at = k
    local place = places[k]
    local field, text = names[place], hold_read[place]
    if not text then
      ended_at = ended_at + 1
      text = ended_now[ended_at] or ended_before and ended_before[ended_at]
    end
    return k, field, holds[field] or text
  end

  local function receiver_has(k, ledger, account)
    local minor = ledger.known[account] or ledger.got[got_at[k]]
    return minor and minor + 0
  end

  -- The held amount of operation k's account.
  local function held_of(k, ledger, account)
    return ledger.held[account] or (ledger.held_read[held_at[k]] or 0) + 0
  end

  -- A whole number as text.
  local function number(value)
    local text = texts[value]
    if not text then
      text = format('%d', value)
      texts[value] = text
    end
    return text
  end

  -- The words of a record as RECORD finds them, in half the time if it is UNTOUCHED; nil if there is no record.
  local function words_of_hold(text, account)
    if text and find(text, account, 3, true) == 3 and byte(text) == OPEN then
      local to, currency, amount, head_end, middle, expires_ms, busy_at = match(text, UNTOUCHED, 3 + #account)
      if to then return 'O', account, to, currency, amount, head_end, 0, 0, 0, middle, expires_ms, busy_at, '-', busy_at + 1 end
    end
    return match(text or '', RECORD)
  end

  -- The record `text` with other words; head_end, middle, busy_at and tail are positions in it, as RECORD finds them.
  local function rewritten(text, status, head_end, captured, released, captures, middle, busy_at, busy, tail)
    captured, released, captures = captured + 0, released + 0, captures + 0
    return status .. sub(text, 2, head_end) .. (texts[captured] or number(captured)) .. ' ' .. (texts[released] or number(released))
      .. ' ' .. (texts[captures] or number(captures)) .. sub(text, middle, busy_at - 1) .. busy .. sub(text, tail)
  end

  -- The number of open holds of operation k's account, and the name of that counter.
  local function open_count(k)
    local at = places[k] + 1
    local counter = names[at]
    return counts[counter] or (hold_read[at] or 0) + 0, counter
  end

  local function count_one_less(k)
    local count, counter = open_count(k)
    counts[counter] = count - 1
  end

  -- Whether the rest of a hold can go back: money that came in meanwhile may leave no room in a number.
  local function has_room(ledger, account, minor)
    return minor == 0 or (available(ledger, account) or 0) + minor <= AMOUNT_MAX
  end

  -- Gives back the rest of a hold.
  local function release(ledger, account, minor)
    if minor == 0 then return end
    post(ledger, account, available(ledger, account), minor)
    shift_held(ledger, account, -minor)
  end

  -- Ends the open hold of operation i, number k of holds, and gives back its rest if there is room for it. The other
  -- arguments are as RECORD finds them in `text`.
  local function finish_hold(i, k, ledger, text, status, holder, currency, amount, head_end, captured, released, captures, middle,
      busy_at, tail)
    if not ledger or ledger.currency ~= currency then return STALE end
    local field, rest = names[places[k]], amount - captured - released
    if not has_room(ledger, holder, rest) then return BALANCE_LIMIT end
    if rest > 0 then
      release(ledger, holder, rest)
      released = released + rest
    end
    count_one_less(k)
    holds[field] = rewritten(text, status, head_end, captured, released, captures, middle, busy_at, '-', tail)
    batch.effect = true
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

  -- The first refusal because of a hold's payer; nil if there is none.
  local function holder_refusal(i, ledger, account)
    local here = ledger and (ledger.known[account] or ledger.values[i])
    if not here and not known_here(i, ledger, account) then return UNKNOWN_ACCOUNT end
    local flag = batch.flags[account]
    if not flag then return nil end
    local status = sub(flag, 1, 1)
    return status == 'C' and CLOSED or status == 'F' and FROZEN or nil
  end

  -- The first refusal of an operation that needs an open hold; `holder` is nil if there is no hold.
  local function hold_refusal(account, status, holder, expires_ms, busy)
    if holder ~= account then return HOLD_NOT_FOUND end
    if status == 'X' then return HOLD_EXPIRED end
    if status ~= 'O' then return HOLD_NOT_OPEN end
--@replay     if batch.rules < 5 and busy ~= '-' then return HOLD_BUSY end
    if batch.now_ms >= expires_ms + 0 then return HOLD_EXPIRED end
    if busy ~= '-' then return HOLD_BUSY end
    return nil
  end

  function write_holds()
    local kept, k, gone, g = {}, 0, {}, 0
    for field, text in pairs(holds) do
      if byte(text) == OPEN then
        kept[k + 1], kept[k + 2], k = field, text, k + 2
      else
        g = g + 1
        gone[g] = field
        record(ENDED .. field, text) -- remembered as long as transfers
      end
    end
    for counter, count in pairs(counts) do
      kept[k + 1], kept[k + 2], k = counter, texts[count] or number(count), k + 2
    end
    if k > 0 then call('HSET', batch.k_hold, unpack(kept, 1, k)) end
    if due_count > 0 then call('ZADD', batch.k_due, unpack(due, 1, due_count)) end
    if g > 0 then
      call('HDEL', batch.k_hold, unpack(gone, 1, g))
      call('ZREM', batch.k_due, unpack(gone, 1, g))
    end
  end

  -- Adds the holds to report to the answer: '<idx> <record>'.
  function tell_holds(lines)
    local n = #lines
    for i, field in pairs(told) do
      n = n + 1
      lines[n] = (texts[i - 1] or number(i - 1)) .. ' ' .. (holds[field] or unchanged[field])
    end
  end
