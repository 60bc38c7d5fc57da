        -- Groups: their legs, and what is set aside, paid or given back for them. Words and records as
        -- wallet_engine/domain/groups.py has them.
        -- A leg is {ledger, payer if here, receiver if here, minor, index, role}: fields in order cost half of named ones.
        local GROUP, PREPARE, DECIDE_GROUP, COMMIT, ABORT, FORGET = 109, 112, 103, 121, 98, 119
        local HEAD, LEG = '^(%S-):(%d+):([^:]+):()', '()(%l)(%d+)|([^|]+)|([^|]+)|(%d+)|(%u+);()'
        local MEMORY, NO_LEG = 'g', '-'
        local leg_count = 0 -- of this batch
        local groups, groups_changed = {}, {} -- field and mark -> record, false if there is none; which are to be written
        said = {}

        -- Mark, attempt, word and legs of an operation's detail; nil where it is malformed. What the accounts of the legs have
        -- and are is read at once.
        local function words_of(detail)
          local mark, attempt, word, at = match(detail, HEAD)
          if not mark then return nil end
          local legs, n, wanted = {}, 0, {}
          for begins, role, index, from, to, amount, currency, ends in gmatch(detail, LEG) do
            local ledger, minor = ledgers[currency], amount + 0
            if begins ~= at or not ledger or from == to or from == TRANSIT or to == TRANSIT or minor < 1
              or minor > AMOUNT_MAX or not find('prbn', role, 1, true) then
              return nil
            end
            local pays, gets = (role == 'p' or role == 'b') and from, (role == 'r' or role == 'b') and to
            n, at = n + 1, ends
            legs[n] = {ledger, pays, gets, minor, index, role}
            local known, of = ledger.known, wanted[ledger]
            if not of then
              of = {}
              wanted[ledger] = of
            end
            if pays and not known[pays] then of[pays] = true end
            if gets and not known[gets] then of[gets] = true end
          end
          leg_count = leg_count + n
          if at ~= #detail + 1 or leg_count + count > OPERATIONS_MAX then return nil end
          for each, accounts in pairs(wanted) do
            local names, m, known = {}, 0, each.known
            for account in pairs(accounts) do
              m = m + 1
              names[m] = account
            end
            if m > 0 then
              local read = call('HMGET', each.key, unpack(names))
              for name = 1, m do known[names[name]] = read[name] and read[name] + 0 or nil end
              if flags_exist then
                read = call('HMGET', k_flags, unpack(names))
                for name = 1, m do flags[names[name]] = flags[names[name]] or read[name] or nil end
              end
            end
          end
          return mark, attempt, word, legs
        end

        local function pending(ledger, account)
          return ledger.pending[account] or (call('HGET', ledger.k_pending, account) or 0) + 0
        end

        local function move(ledger, account, delta)
          local known = ledger.known
          local have = known[account] or 0
          local after = have + delta
          if after > AMOUNT_MAX or after < -AMOUNT_MAX then after = added(ledger, account, have, delta) end
          known[account], ledger.moved[account] = after, true
        end

        -- Sums by account of the legs looked at so far, for one look at all of them.
        local function start_sums()
          for _, each in pairs(ledgers) do each.spent, each.coming = {}, {} end
        end

        -- The first leg of which this partition's side cannot be: its outcome, index and role. Nil where all can. What one leg
        -- brings is not there for another. What is set aside needs room where it is kept.
        local function first_refusal(legs, setting_aside)
          start_sums()
          for n = 1, #legs do
            local leg = legs[n]
            local ledger, from, to, minor = leg[1], leg[2], leg[3], leg[4]
            if from or to then
              local known = ledger.known
              local have, have_to = from and known[from], to and known[to]
              local refused = side_refusal(from, have, to, have_to)
              if not refused and from and byte(from) ~= SYSTEM then
                local spent = (ledger.spent[from] or 0) + minor
                ledger.spent[from] = spent
                if have < spent and have - spent < -limit_of(from, ledger.currency) then
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
--@limits                 local new = ledger.coming[to]
--@limits                 if not refused and over_limit(ledger, to, have_to + new) then refused = BALANCE_LIMIT end
              end
              if refused then return refused, leg[5], leg[6] end
            end
          end
          return nil
        end

        -- Pay: what is available now (of home), or what was set aside.
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
          effect = true
        end

        -- Set aside what legs need, or (sign -1) give it back.
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
          effect = true
        end

        -- Whether what is paid (to side 3), or given back (to side 2), has room in a number.
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

        local function memory_of(field)
          return remembered[MEMORY .. field] or call('HGET', k_seen, MEMORY .. field)
            or window_asked > 1 and call('HGET', k_seen_before, MEMORY .. field) or nil
        end

        local function memorize(field, text)
          remembered[MEMORY .. field] = text
          records[record_count + 1], records[record_count + 2], record_count = MEMORY .. field, text, record_count + 2
        end

        -- A group that is under way: its record, status and words; nil where there is none.
        local function group_of(key)
          local text = groups[key]
          if text == nil then
            text = call('HGET', k_group, key)
            groups[key] = text
          end
          if text then return text, match(text, '^(%u) %S+ %S+ (%S+)$') end
          return nil
        end

        local function keep_group(key, status, payer, i, detail)
          groups[key], groups_changed[key] = concat({status, payer, seq_text .. '.' .. (i - 1), detail}, ' '), true
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
            if groups[key] then call('HSET', k_group, key, groups[key]) else call('HDEL', k_group, key) end
          end
          for _, each in pairs(ledgers) do
            local written, n, known = each.written, each.written_count, each.known
            for account in pairs(each.moved) do
              written[n + 1], written[n + 2], n = account, format('%d', known[account]), n + 2
            end
            each.written_count = n
            for account, minor in pairs(each.pending) do call('HSET', each.k_pending, account, format('%.0f', minor)) end
          end
        end
