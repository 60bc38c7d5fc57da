        -- Refunds: what is remembered here of an original, and how much of it has gone back. Needs lib/holds.lua.
        local RETURN_RECORD, TOTAL, CREDITED, GROUP_PART = 'R', 'r.', 'c', 'y' -- as in wallet_engine/domain/returns.py

        -- A number as records have it: digits of 64, most significant first.
        local function digits_of(number)
          local text = ''
          repeat
            local digit = number % 64
            text, number = sub(DIGITS, digit + 1, digit + 1) .. text, (number - digit) / 64
          until number == 0
          return text
        end

        -- Whether a window remembers the original, of which `record` is what it has under the original's field.
        local function is_original(record, begin, idx)
          return record and sub(record, 1, -1 - RECORD_END_LENGTH) == begin and sub(record, -2) == idx
        end

        -- In which window an original is remembered as paid: true for the one in force, false for the one before, nil: in none.
        local function window_of(field, origin, seq, idx, how, mark)
          field = match(field, '^[^#]+')
          if how == GROUP_PART then
            field = 'g' .. field .. mark
            if (remembered[field] or call('HGET', k_seen, field)) == 'C 0' then return true end
            if call('HGET', k_seen_before, field) == 'C 0' then return false end
            return nil
          end
          idx = sub('A' .. digits_of(idx), -2)
          if how == CREDITED then
            local entry = origin .. '.' .. seq
            local tens, ones = byte(entry, -2, -1)
            local odd = tens % 2
            local mark = string.char(49 + 10 * odd + ones) .. idx .. APPLIED -- 'a' is 97, '0' is 48
            field = sub(entry, 1, -3) .. string.char(tens - odd)
            if find(remembered[field] or '', mark, 1, true) or find(call('HGET', k_seen, field) or '', mark, 1, true) then
              return true
            end
            if find(call('HGET', k_seen_before, field) or '', mark, 1, true) then return false end
            return nil
          end
          local begin = APPLIED .. digits_of(seq + 0)
          if is_original(remembered[field] or call('HGET', k_seen, field), begin, idx) then return true end
          if is_original(remembered_before[field] or call('HGET', k_seen_before, field), begin, idx) then return false end
          return nil
        end

        local function total_in(current, field)
          local known = current and remembered or remembered_before
          return known[TOTAL .. field] or call('HGET', current and k_seen or k_seen_before, TOTAL .. field)
        end

        local function keep_total(current, field, minor)
          local text = format('%.0f', minor)
          if current then
            remembered[TOTAL .. field] = text
            records[record_count + 1], records[record_count + 2], record_count = TOTAL .. field, text, record_count + 2
          else
            remembered_before[TOTAL .. field] = text
          end
        end
