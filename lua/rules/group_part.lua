        -- p: what legs need is set aside, if all of them can be. Told of a refusal: '<outcome> <index>'; of a repeat:
        -- '<P under way, C paid or B given back> <attempt>'.
        rules[PREPARE] = function(i, _, account, detail)
          local mark, attempt, _, text = match(detail, WORDS)
          local legs = mark and legs_of(text)
          if not legs or not legs[1] then return nil end
          local key = columns[FIELD + i] .. mark
          local group, status, last = group_of(key), nil, nil
          if group then
            status, last = group.status, group.attempt
          else
            status, last = match(memory_of(key) or '', '^(%u) (%d+)$')
          end
          if status and (status ~= 'B' or last + 0 >= attempt + 0) then
            tell(i, status, last)
            return REPEATED
          end
          local refused, leg = first_refusal(legs, true)
          if refused then
            tell(i, refused, leg)
            return refused
          end
          set_aside(legs, 1)
          keep_group(key, 'P', account, attempt, i, text)
          return APPLIED
        end

        -- y: what was set aside is paid.
        rules[COMMIT] = function(i, _, _, detail)
          local mark, attempt, _, text = match(detail, WORDS)
          local legs = mark and legs_of(text)
          if not legs then return nil end
          local key = columns[FIELD + i] .. mark
          local group = group_of(key)
          if not group or group.status ~= 'P' or group.attempt ~= attempt + 0 or group.legs ~= text then return REPEATED end
          if not have_room(legs, 'gets', 'receiver_limited') then return BALANCE_LIMIT end
          pay(legs, true)
          end_group(key)
          memorize(key, 'C 0')
          return APPLIED
        end

        -- b: what was set aside is given back; what was not yet never will be.
        rules[ABORT] = function(i, _, _, detail)
          local mark, attempt, _, text = match(detail, WORDS)
          local legs = mark and legs_of(text)
          if not legs then return nil end
          local key = columns[FIELD + i] .. mark
          local group = group_of(key)
          if group then
            if group.status ~= 'P' or group.attempt > attempt + 0 or group.legs ~= text then return REPEATED end
            if not have_room(legs, 'pays', 'payer_limited') then return BALANCE_LIMIT end
            set_aside(legs, -1)
            end_group(key)
          else
            local status, last = match(memory_of(key) or '', '^(%u) (%d+)$')
            if status == 'C' or status and last + 0 >= attempt + 0 then return REPEATED end
            effect = true
          end
          memorize(key, 'B ' .. attempt)
          return APPLIED
        end
