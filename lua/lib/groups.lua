        -- Groups: their legs, and what is set aside, paid or given back for them. Words and records as
        -- wallet_engine/domain/groups.py has them.
        local k_group = KEYS[K_EXTENDED + 2]
        local WORDS, LEG = '^(%S-):(%d+):([^:]+):(%S*)$', '()(%l)(%d+)|([^|]+)|([^|]+)|(%d+)|(%u+);()'
        local MEMORY, NO_LEG = 'g', '-'
        local leg_count = 0 -- of this batch
        local groups, groups_changed = {}, {} -- field and mark -> record, false if there is none; which are to be written
        said = {}

        -- The legs of a text, nil where it is malformed; what their accounts have and are is read at once.
        local function legs_of(text)
          local legs, n, at, wanted = {}, 0, 1, {}
          for begins, role, index, from, to, amount, currency, ends in gmatch(text, LEG) do
            local ledger, minor = ledgers[currency], amount + 0
            if begins ~= at or not ledger or from == to or from == TRANSIT or to == TRANSIT or minor < 1
              or minor > AMOUNT_MAX or not find('prbn', role, 1, true) then
              return nil
            end
            local pays, gets = (role == 'p' or role == 'b') and from, (role == 'r' or role == 'b') and to
            n, at = n + 1, ends
            legs[n] = {ledger = ledger, pays = pays, gets = gets, minor = minor, index = index, role = role,
              payer_limited = pays and byte(pays) ~= SYSTEM, receiver_limited = gets and byte(gets) ~= SYSTEM}
            local of = wanted[ledger]
            if not of then
              of = {}
              wanted[ledger] = of
            end
            if pays and not ledger.known[pays] then of[pays] = true end
            if gets and not ledger.known[gets] then of[gets] = true end
          end
          leg_count = leg_count + n
          if at ~= #text + 1 or leg_count + count > OPERATIONS_MAX then return nil end
          for each, accounts in pairs(wanted) do
            local names, m = {}, 0
            for account in pairs(accounts) do
              m = m + 1
              names[m] = account
            end
            if m > 0 then
              local read, states = call('HMGET', each.key, unpack(names)), flags_exist and call('HMGET', k_flags, unpack(names))
              for at_name = 1, m do
                local account = names[at_name]
                each.known[account] = read[at_name] and read[at_name] + 0 or nil
                if states and not flags[account] then flags[account] = states[at_name] or nil end
              end
            end
          end
          return legs
        end

        local function pending(ledger, account)
          return ledger.pending[account] or (call('HGET', ledger.k_pending, account) or 0) + 0
        end

        local function shift_pending(ledger, account, delta)
          ledger.pending[account] = pending(ledger, account) + delta
        end

        local function move(ledger, account, delta)
          ledger.known[account] = added(ledger, account, ledger.known[account] or 0, delta)
          ledger.moved[account] = true
        end

        -- Sums by account of the legs looked at so far, for one look at all of them.
        local function start_sums()
          for _, each in pairs(ledgers) do each.spent, each.coming = {}, {} end
        end

        local function sum(sums, account, minor)
          local total = (sums[account] or 0) + minor
          sums[account] = total
          return total
        end

        -- The first leg of which this partition's side cannot be: its outcome and index. Nil where all can. What one leg brings
        -- is not there for another. What is set aside needs room where it is kept.
        local function first_refusal(legs, setting_aside)
          start_sums()
          for n = 1, #legs do
            local leg = legs[n]
            local ledger, from, to, minor = leg.ledger, leg.pays, leg.gets, leg.minor
            if from or to then
              local known = ledger.known
              local refused
              if from then
                refused = side_refusal(from, known[from], to or nil, to and known[to])
              else
                refused = side_refusal(to, known[to], nil, nil)
              end
              if not refused and leg.payer_limited then
                local spent = sum(ledger.spent, from, minor)
                local left = known[from] - spent
                if left < 0 and left < -limit_of(from, leg.ledger.currency) then
                  refused = INSUFFICIENT_FUNDS
                elseif setting_aside and held(ledger, from) + spent > AMOUNT_MAX then
                  refused = BALANCE_LIMIT
                end
              end
              if not refused and leg.receiver_limited then
                local coming = sum(ledger.coming, to, minor) + (setting_aside and pending(ledger, to) or 0)
                if coming > AMOUNT_MAX or known[to] + coming > AMOUNT_MAX then refused = BALANCE_LIMIT end
              end
              if refused then return refused, leg.index, leg.role end
            end
          end
          return nil
        end

        -- Pay: what is available now (of home), or what was set aside.
        local function pay(legs, set_aside)
          for n = 1, #legs do
            local leg = legs[n]
            local ledger, minor, through = leg.ledger, leg.minor, 0
            if leg.pays then
              if set_aside and leg.payer_limited then
                shift_held(ledger, leg.pays, -minor)
              else
                move(ledger, leg.pays, -minor)
              end
              through = minor
            end
            if leg.gets then
              move(ledger, leg.gets, minor)
              if set_aside and leg.receiver_limited then
                shift_pending(ledger, leg.gets, -minor)
              else
                through = through - minor
              end
            end
            if through ~= 0 then post_transit(ledger, through) end
          end
          effect = true
        end

        -- Set aside what legs need, or (sign -1) give it back.
        local function set_aside(legs, sign)
          for n = 1, #legs do
            local leg = legs[n]
            local ledger, minor = leg.ledger, leg.minor * sign
            if leg.payer_limited then
              move(ledger, leg.pays, -minor)
              shift_held(ledger, leg.pays, minor)
            end
            if leg.receiver_limited then
              shift_pending(ledger, leg.gets, minor)
              post_transit(ledger, -minor)
            end
          end
          effect = true
        end

        -- Whether what is paid (side 'gets'), or given back ('pays'), has room in a number.
        local function have_room(legs, side, limited)
          start_sums()
          for n = 1, #legs do
            local leg = legs[n]
            local account = leg[limited] and leg[side]
            if account and leg.ledger.known[account] + sum(leg.ledger.coming, account, leg.minor) > AMOUNT_MAX then
              return false
            end
          end
          return true
        end

        local function memory_of(field)
          return remembered[MEMORY .. field] or call('HGET', k_seen, MEMORY .. field)
            or window_asked > 1 and call('HGET', k_seen_before, MEMORY .. field) or nil
        end

        local function memorize(field, text)
          remembered[MEMORY .. field] = text
          records[record_count + 1], records[record_count + 2], record_count = MEMORY .. field, text, record_count + 2
        end

        local function group_of(key)
          local group = groups[key]
          if group ~= nil then return group or nil end
          local text = call('HGET', k_group, key)
          if text then
            local status, attempt, legs = match(text, '^(%u) %S+ (%d+) %S+ (%S*)$')
            group = {status = status, attempt = attempt + 0, legs = legs, text = text}
          end
          groups[key] = group or false
          return group
        end

        local function keep_group(key, status, payer, attempt, i, legs)
          local text = concat({status, payer, format('%d', attempt), seq_text .. '.' .. (i - 1), legs}, ' ')
          groups[key], groups_changed[key] = {status = status, attempt = attempt + 0, legs = legs, text = text}, true
        end

        local function end_group(key)
          groups[key], groups_changed[key], effect = false, true, true
        end

        -- What is told of operation i, an answer to a repeat or a refusal.
        local function tell(i, ...)
          said[i], repeated = concat({...}, ' '), repeated or {}
          repeated[#repeated + 1] = i
        end

        for _, each in pairs(ledgers) do each.pending, each.moved = {}, {} end

        function write_groups()
          for key in pairs(groups_changed) do
            if groups[key] then call('HSET', k_group, key, groups[key].text) else call('HDEL', k_group, key) end
          end
          for _, each in pairs(ledgers) do
            local written, n = each.written, each.written_count
            for account in pairs(each.moved) do
              written[n + 1], written[n + 2], n = account, format('%d', each.known[account]), n + 2
            end
            each.written_count = n
            for account, minor in pairs(each.pending) do call('HSET', each.k_pending, account, format('%.0f', minor)) end
          end
        end
