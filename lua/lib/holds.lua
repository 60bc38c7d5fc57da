    -- Holds: records as wallet_engine/domain/holds.py has them. Each is read once a batch, and written behind the decisions.
    local HOLD_LIMIT_OPEN, HOLD_LIMIT_CAPTURES, COUNT_OF = 1000, 50, '#'
    local open_counts = {} -- account -> open holds, as this batch has left it

    for currency, each in pairs(ledgers) do
      each.k_held, each.k_pending, each.held = HELD_OF .. currency .. tag, PENDING_OF .. currency .. tag, {}
    end

    -- The hold of a field: from this batch, open, or ended and still remembered; nil where there is none.
    local function hold_of(field)
      local hold = holds[field]
      if hold ~= nil then return hold or nil end
      local text = call('HGET', k_hold, field) or call('HGET', k_seen, 'h' .. field)
        or window_asked > 1 and call('HGET', k_seen_before, 'h' .. field)
      if text then
        local status, account, to, currency, amount, captured, released, captures, expires_ms, mark, place, busy, reference =
          match(text, '^(%u) (%S+) (%S+) (%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S+) (%S+) ?(.*)$')
        hold = {status = status, account = account, to = to, currency = currency, amount = amount + 0,
          captured = captured + 0, released = released + 0, captures = captures + 0, expires_ms = expires_ms + 0,
          mark = mark, place = place, busy = busy, reference = reference, stored = status == 'O'}
      end
      holds[field] = hold or false
      return hold
    end

    local function hold_text(hold)
      local text = concat({hold.status, hold.account, hold.to, hold.currency, format('%.0f', hold.amount),
        format('%.0f', hold.captured), format('%.0f', hold.released), format('%d', hold.captures),
        format('%.0f', hold.expires_ms), hold.mark, hold.place, hold.busy}, ' ')
      return hold.reference == '' and text or text .. ' ' .. hold.reference
    end

    local function change(field, hold)
      holds[field], holds_changed[field], effect = hold, true, true
    end

    local function remaining(hold) return hold.amount - hold.captured - hold.released end

    local function open_count(account)
      return open_counts[account] or (call('HGET', k_hold, COUNT_OF .. account) or 0) + 0
    end

    local function count_open(account, delta)
      open_counts[account] = open_count(account) + delta
      counts_changed[COUNT_OF .. account] = open_counts[account]
    end

    -- What an account of any ledger has; nil where it is not known.
    local function available(ledger, account)
      local minor = ledger.known[account] or call('HGET', ledger.key, account)
      return minor and minor + 0
    end

    local function post(ledger, account, have, delta)
      local written, n = ledger.written, ledger.written_count
      local after = added(ledger, account, have, delta)
      ledger.known[account] = after
      written[n + 1], written[n + 2], ledger.written_count, effect = account, format('%d', after), n + 2, true
    end

    local function post_transit(ledger, delta)
      ledger.transit, ledger.transit_changed = added(ledger, TRANSIT, ledger.transit, delta), true
    end

    local function held(ledger, account)
      return ledger.held[account] or (call('HGET', ledger.k_held, account) or 0) + 0
    end

    local function shift_held(ledger, account, delta) ledger.held[account] = held(ledger, account) + delta end

    -- Whether what is left of a hold can go back: what came in meanwhile may leave no room in a number.
    local function has_room(hold, minor)
      return (available(ledgers[hold.currency], hold.account) or 0) + minor <= AMOUNT_MAX
    end

    -- What is left of a hold goes back, and the hold ends.
    local function finish_hold(field, hold, status)
      local ledger, rest = ledgers[hold.currency], remaining(hold)
      if rest > 0 then
        post(ledger, hold.account, available(ledger, hold.account), rest)
        shift_held(ledger, hold.account, -rest)
      end
      hold.released, hold.status, hold.busy = hold.released + rest, status, '-'
      count_open(hold.account, -1)
      change(field, hold)
    end

    -- The flags of an account that only a detail names.
    local function look_up_flags(account)
      if flags_exist and not flags[account] then flags[account] = call('HGET', k_flags, account) or nil end
    end

    local function known_here(ledger, account)
      if ledger and available(ledger, account) then return true end
      for _, each in pairs(ledgers) do
        if available(each, account) then return true end
      end
      return false
    end

    -- The answer to an operation that is remembered under its own id: '=', '!', or nil where it is new, and its record's end.
    local function answered(i)
      local record_end = sub(head, record_end_at, record_end_at + RECORD_END_LENGTH - 1)
      record_end_at = record_end_at + RECORD_END_LENGTH
      local field = columns[FIELD + i]
      local old = remembered[field] or recalled[i] or recalled_before[i]
      if not old then return nil, record_end end
      if sub(old, -RECORD_END_LENGTH, -3) ~= sub(record_end, 1, FINGERPRINT_LENGTH) then return CONFLICT, record_end end
      repeated = repeated or {}
      repeated[#repeated + 1] = i
      return REPEATED, record_end
    end

    local function remember(i, outcome, record_end)
      if not seq_digits then
--@include lib/seq_digits.lua
      end
      local field, record = columns[FIELD + i], outcome .. seq_digits .. record_end
      remembered[field] = record
      records[record_count + 1], records[record_count + 2], record_count = field, record, record_count + 2
    end

    -- The first refusal of a payer whose hold is concerned, nil if there is none.
    local function holder_refusal(ledger, account)
      if not known_here(ledger, account) then return UNKNOWN_ACCOUNT end
      if status_of(account) == 'C' then return CLOSED end
      if status_of(account) == 'F' then return FROZEN end
      return nil
    end

    -- The first refusal of what needs an open hold, and the hold.
    local function hold_refusal(field, account)
      local hold = hold_of(field)
      if not hold or hold.account ~= account then return HOLD_NOT_FOUND end
      if hold.status == 'X' then return HOLD_EXPIRED end
      if hold.status ~= 'O' then return HOLD_NOT_OPEN end
      if hold.busy ~= '-' then return HOLD_BUSY end
      if now_ms >= hold.expires_ms then return HOLD_EXPIRED end
      return nil, hold
    end

    function write_holds()
      for field in pairs(holds_changed) do
        local hold = holds[field]
        if hold.status == 'O' then
          call('HSET', k_hold, field, hold_text(hold))
          if not hold.stored then call('ZADD', k_due, format('%.0f', hold.expires_ms), field) end
        else
          if hold.stored then
            call('HDEL', k_hold, field)
            call('ZREM', k_due, field)
          end
          call('HSET', k_seen, 'h' .. field, hold_text(hold)) -- remembered as long as transfers
        end
      end
      for field, number in pairs(counts_changed) do call('HSET', k_hold, field, number) end
      for _, each in pairs(ledgers) do
        for account, minor in pairs(each.held) do call('HSET', each.k_held, account, format('%.0f', minor)) end
      end
    end
