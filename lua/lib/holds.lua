  -- Holds: records as wallet_engine/domain/holds.py has them, texts here, too. What a batch needs of them is read before its
  -- first operation is decided, and written behind the last, each key once.
  -- Of the partition at hand, by the number of an operation among those of holds, which are decided in the order in which they
  -- were read: where `names` has the field of its hold, and `hold_read` that (behind it, of how many its account has open), where
  -- the ledger's `held_read` has its account, where `got` has the receiver.
  local number_at, places, held_at, got_at
  local names, hold_read
  local ended_at, ended_now, ended_before -- the holds that are not open, as the memory has them, in the same order
  local holds, counts -- field -> record, counter -> how many are open: of those that this batch has changed
  local due, due_count -- what `due` gets, alternating: when a new hold expires, its field
  local told, unchanged -- position of an operation -> field of the hold that is told of it; field -> record, where none is in `holds`
  local start_placing
  local texts = {} -- number -> decimal text: most are met again
  local HOLD_LIMIT_OPEN, HOLD_LIMIT_CAPTURES, COUNT_OF, ENDED, OPEN, SPACE = 1000, 50, '#', 'h', 79, 32 -- 'O': status of an open hold
  local RECORD = '^(%u) (%S+) (%S+) (%S+) (%d+)() (%d+) (%d+) (%d+)() (%d+) %S+ %S+ ()(%S+)()'
  -- The same of an open hold of which nothing was captured or released, and of which no capture is under way; from behind its
  -- account's name.
  local UNTOUCHED = '^ (%S+) (%S+) (%d+)() 0 0 0() (%d+) %S+ %S+ ()%-'
  -- Which operations are of holds, and whether they may change how many are open.
  local COUNTED = {[HOLD] = true, [INCREASE] = false, [CAPTURE] = true, [CAPTURE_DEBIT] = false, [UNCAPTURE] = false,
    [FINISH_HOLD] = true, [VOID] = true, [EXPIRE] = true}

  -- Those of the holds that are not open, of which the memory may have the end.
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

  -- Reads the holds, how many are open and what is held. account_at, detail_at: where accounts and details begin.
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

  -- The next operation's number, field and record, as this batch has left it; no record, or false, where there is none.
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

  -- What is held of operation k's account.
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

  -- The words of a record as RECORD finds them, of one that is open and untouched in half the time; nil where there is none.
  local function words_of_hold(text, account)
    if text and find(text, account, 3, true) == 3 and byte(text) == OPEN then
      local to, currency, amount, head_end, middle, expires_ms, busy_at = match(text, UNTOUCHED, 3 + #account)
      if to then return 'O', account, to, currency, amount, head_end, 0, 0, 0, middle, expires_ms, busy_at, '-', busy_at + 1 end
    end
    return match(text or '', RECORD)
  end

  -- The record `text` with other words; the rest are places in it, as RECORD finds them.
  local function rewritten(text, status, head_end, captured, released, captures, middle, busy_at, busy, tail)
    captured, released, captures = captured + 0, released + 0, captures + 0
    return status .. sub(text, 2, head_end) .. (texts[captured] or number(captured)) .. ' ' .. (texts[released] or number(released))
      .. ' ' .. (texts[captures] or number(captures)) .. sub(text, middle, busy_at - 1) .. busy .. sub(text, tail)
  end

  -- How many holds operation k's account has open, and under which name that is kept.
  local function open_count(k)
    local at = places[k] + 1
    local counter = names[at]
    return counts[counter] or (hold_read[at] or 0) + 0, counter
  end

  local function count_one_less(k)
    local count, counter = open_count(k)
    counts[counter] = count - 1
  end

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

  -- The open hold of operation i, the k-th of holds, ends, and what remains of it is available again, if there is room for it.
  -- What it is given: as RECORD finds it in `text`.
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

  -- The first refusal of a payer whose hold is concerned, nil if there is none.
  local function holder_refusal(i, ledger, account)
    local here = ledger and (ledger.known[account] or ledger.values[i])
    if not here and not known_here(i, ledger, account) then return UNKNOWN_ACCOUNT end
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

  -- What is told of holds: '<idx> <record>'.
  function tell_holds(lines)
    local n = #lines
    for i, field in pairs(told) do
      n = n + 1
      lines[n] = (texts[i - 1] or number(i - 1)) .. ' ' .. (holds[field] or unchanged[field])
    end
  end
