  -- Groups: their legs, and what is set aside, paid or given back for them. wallet_engine/domain/groups.py explains
  -- words and records.
  -- A leg is {ledger, payer if here, receiver if here, minor, index, role}: an array costs half of named fields.
  local GROUP, PREPARE, DECIDE_GROUP, COMMIT, ABORT, FORGET = 109, 112, 103, 121, 98, 119
  local HEAD, LEG = '^(%S-):(%d+):([^:]+):()', '^([prb])(%d+)|([^|]+)|([^|]+)|(%d+)|(%u+);()'
  local NOT_HERE = 110 -- 'n'
  local MEMORY, NO_LEG = 'g', '-'
  local NO_WORDS = {}
  local EVERY = {[GROUP] = true, [PREPARE] = true, [DECIDE_GROUP] = true, [COMMIT] = true, [ABORT] = true, [FORGET] = true}

  -- An operation's detail as {mark, attempt, word, legs with a side here, number of all legs, whether one has a side
  -- elsewhere}; nil if it is malformed. Legs with no side here are not parsed: at home most are such.
  local function words_of(detail)
    local mark, attempt, word, at = match(detail, HEAD)
    if not mark then return nil end
    local legs, n, count, elsewhere, last = {}, 0, 0, false, #detail
    while at <= last do
      count = count + 1
      if byte(detail, at) == NOT_HERE then
        at = find(detail, ';', at, true)
        if not at then return nil end
        at, elsewhere = at + 1, true
      else
        local role, index, from, to, amount, currency, ends = match(detail, LEG, at)
        local ledger, minor = batch.ledgers[currency or ''], (amount or 0) + 0
        if not ledger or from == to or from == TRANSIT or to == TRANSIT or minor < 1 or minor > AMOUNT_MAX then return nil end
        local pays, gets = role ~= 'r', role ~= 'p'
        n, at = n + 1, ends
        legs[n] = {ledger, pays and from, gets and to, minor, index, role}
        elsewhere = elsewhere or not (pays and gets)
      end
    end
    return {mark, attempt, word, legs, count, elsewhere}
  end

  -- Reads balances and flags of the legs' accounts, the groups under way and the memory of others. batch.words:
  -- position of an operation -> its words; nil if they are malformed, or if the legs are too many.
  function read_groups(detail_at)
    local columns, kinds, ledgers = batch.columns, batch.kinds, batch.ledgers
    local words, leg_count, keys, k, remembered, m = {}, 0, {}, 0, {}, 0
    for _, each in pairs(ledgers) do each.named, each.paying, each.getting = {}, {}, {} end
    for i = 1, batch.count do
      local kind = kinds[i]
      if kind ~= TRANSFER and kind ~= DEBIT and kind ~= SETTLE then detail_at = detail_at + 1 end
      if EVERY[kind] then
        local field, found = columns[FIELD + i], words_of(columns[detail_at])
        if found then
          local legs, key = found[4], field .. found[1]
          leg_count = leg_count + found[5]
          if leg_count + batch.count > OPERATIONS_MAX then break end
          words[i] = found
          if kind ~= GROUP then
            k = k + 1
            keys[k] = key
          end
          if kind ~= FORGET then
            m = m + 1
            remembered[m] = MEMORY .. ((kind == GROUP or kind == DECIDE_GROUP) and field or key)
          end
          local of_home = kind == GROUP or kind == DECIDE_GROUP
          for n = 1, #legs do
            local leg = legs[n]
            local ledger, from, to = leg[1], leg[2], leg[3]
            local named = ledger.named
            if from then
              -- A commit pays out of `held`, so of payers only a system account's balance changes. An abort changes
              -- no receiver's balance.
              if kind ~= COMMIT or byte(from) == SYSTEM then named[#named + 1] = from end
              if not of_home then ledger.paying[#ledger.paying + 1] = from end
            end
            if to then
              if kind ~= ABORT then named[#named + 1] = to end
              if not of_home then ledger.getting[#ledger.getting + 1] = to end
            end
          end
        end
      end
    end
    batch.words, batch.groups, batch.groups_changed, batch.said, batch.memories = words, {}, {}, {}, {}
    if k > 0 then
      local read = call('HMGET', batch.k_group, unpack(keys))
      for n = 1, k do batch.groups[keys[n]] = read[n] end
    end
    if m > 0 then
      local now = call('HMGET', batch.k_seen, unpack(remembered))
      local before = batch.window_asked > 1 and call('HMGET', batch.k_seen_before, unpack(remembered))
      for n = 1, m do batch.memories[remembered[n]] = now[n] or before and before[n] end
    end
    for _, each in pairs(ledgers) do
      local named, paying, getting, known = each.named, each.paying, each.getting, each.known
      if named[1] then
        local read = call('HMGET', each.key, unpack(named))
        for n = 1, #named do known[named[n]] = read[n] and read[n] + 0 or nil end
        if batch.flags_exist then
          read = call('HMGET', batch.k_flags, unpack(named))
          for n = 1, #named do batch.flags[named[n]] = read[n] or nil end
        end
      end
      if paying[1] then
        local read = call('HMGET', each.k_held, unpack(paying))
        for n = 1, #paying do each.held_before[paying[n]] = (read[n] or 0) + 0 end
      end
      if getting[1] then
        local read = call('HMGET', each.k_pending, unpack(getting))
        for n = 1, #getting do each.pending_before[getting[n]] = (read[n] or 0) + 0 end
      end
      each.moved = {}
    end
  end

  local function pending(ledger, account) return ledger.pending[account] or ledger.pending_before[account] or 0 end

  local function move(ledger, account, delta)
    local known = ledger.known
    local have = known[account] or 0
    local after = have + delta
    if after > AMOUNT_MAX or after < AMOUNT_MIN then after = added(ledger, account, have, delta) end
    known[account], ledger.moved[account] = after, true
  end

  -- Clears the sums of the legs checked so far: account -> minor units.
  local function start_sums()
    for _, each in pairs(batch.ledgers) do each.spent, each.left, each.coming = {}, {}, {} end
  end

  -- Outcome, index and role of the first leg that this partition refuses; nil if it refuses none. Money that one leg
  -- brings cannot pay another leg. Money that is set aside needs room in `held` and `pending`.
  local function first_refusal(legs, setting_aside)
    start_sums()
    for n = 1, #legs do
      local leg = legs[n]
      local ledger, from, to, minor = leg[1], leg[2], leg[3], leg[4]
      local known = ledger.known
      local have, have_to = from and known[from], to and known[to]
      local refused
      if batch.flags_exist or from and not have or to and not have_to then
        refused = side_refusal(batch.flags, from, have, to, have_to)
      end
      if not refused and from and byte(from) ~= SYSTEM then
        local spent = (ledger.spent[from] or 0) + minor
        local left = (ledger.left[from] or have) - minor -- leg by leg, because `spent` may be beyond exact numbers
        ledger.spent[from], ledger.left[from] = spent, left
        if left < 0 and left < -limit_of(batch.flags, from, ledger.currency) then
          refused = INSUFFICIENT_FUNDS
        elseif setting_aside and held(ledger, from) + spent > AMOUNT_MAX then
          refused = BALANCE_LIMIT
        end
      end
      if not refused and to and byte(to) ~= SYSTEM then
        local coming = (ledger.coming[to] or 0) + minor
        ledger.coming[to] = coming
        if setting_aside then coming = coming + pending(ledger, to) end
        if coming > AMOUNT_MAX or have_to + coming > AMOUNT_MAX then refused = BALANCE_LIMIT end
        local new = ledger.coming[to]
        if not refused and over_limit(batch.flags, ledger, to, have_to + new) then refused = BALANCE_LIMIT end
      end
      if refused then return refused, leg[5], leg[6] end
    end
    return nil
  end

  -- Pays the legs out of what is available (at home), or out of what was set aside.
  local function pay(legs, set_aside)
    for n = 1, #legs do
      local leg = legs[n]
      local ledger, from, to, minor, through = leg[1], leg[2], leg[3], leg[4], 0
      if from then
        if set_aside and byte(from) ~= SYSTEM then
          shift_held(ledger, from, -minor)
        else
          move(ledger, from, -minor)
        end
        through = minor
      end
      if to then
        move(ledger, to, minor)
        if set_aside and byte(to) ~= SYSTEM then
          ledger.pending[to] = pending(ledger, to) - minor
        else
          through = through - minor
        end
      end
      if through ~= 0 then post_transit(ledger, through) end
    end
    batch.effect = true
  end

  -- Sets aside what legs need (sign 1), or gives it back (sign -1).
  local function set_aside(legs, sign)
    for n = 1, #legs do
      local leg = legs[n]
      local ledger, from, to, minor = leg[1], leg[2], leg[3], leg[4] * sign
      if from and byte(from) ~= SYSTEM then
        move(ledger, from, -minor)
        shift_held(ledger, from, minor)
      end
      if to and byte(to) ~= SYSTEM then
        ledger.pending[to] = pending(ledger, to) + minor
        post_transit(ledger, -minor)
      end
    end
    batch.effect = true
  end

  -- Whether balances stay within AMOUNT_MAX when legs are paid (side 3) or given back (side 2).
  local function have_room(legs, side)
    start_sums()
    for n = 1, #legs do
      local ledger, account = legs[n][1], legs[n][side]
      if account and byte(account) ~= SYSTEM then
        local coming = (ledger.coming[account] or 0) + legs[n][4]
        ledger.coming[account] = coming
        if ledger.known[account] + coming > AMOUNT_MAX then return false end
      end
    end
    return true
  end

  local function memory_of(field) return batch.remembered[MEMORY .. field] or batch.memories[MEMORY .. field] end

  local function memorize(field, text)
    batch.remembered[MEMORY .. field] = text
    record(MEMORY .. field, text)
  end

  -- Record, status and words of a group that is under way; nil if there is none.
  local function group_of(key)
    local text = batch.groups[key]
    if text then return text, match(text, '^(%u) %S+ %S+ (%S+)$') end
    return nil
  end

  local function keep_group(key, status, payer, i, detail)
    batch.groups[key] = status .. ' ' .. payer .. ' ' .. batch.seq_text .. '.' .. (i - 1) .. ' ' .. detail
    batch.groups_changed[key] = true
  end

  local function end_group(key)
    batch.groups[key], batch.groups_changed[key], batch.effect = false, true, true
  end

  -- Adds a detail of operation i to the answer: of a repeat or a refusal.
  local function tell(i, ...)
    batch.said[i] = concat({...}, ' ')
    batch.repeated[#batch.repeated + 1] = i
  end

  function write_groups()
    local kept, k, gone, n = {}, 0, {}, 0
    for key in pairs(batch.groups_changed) do
      if batch.groups[key] then
        kept[k + 1], kept[k + 2], k = key, batch.groups[key], k + 2
      else
        n = n + 1
        gone[n] = key
      end
    end
    if k > 0 then call('HSET', batch.k_group, unpack(kept, 1, k)) end
    if n > 0 then call('HDEL', batch.k_group, unpack(gone, 1, n)) end
    for _, each in pairs(batch.ledgers) do
      local written, m, known = each.written, each.written_count, each.known
      for account in pairs(each.moved) do
        written[m + 1], written[m + 2], m = account, format('%d', known[account]), m + 2
      end
      each.written_count = m
      write_minors(each.k_pending, each.pending)
    end
  end
