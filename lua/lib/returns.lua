  -- Refunds: what is remembered here of an original, and how much of it has gone back. Needs lib/answers.lua.
  -- As in wallet_engine/domain/returns.py.
  local RETURN_RECORD, TOTAL, CREDITED, GROUP_PART, STORED = 'R', 'r.', 'c', 'y', 's'

  -- Whether `record`, which a window has under the original's field, is of the original and says that it was paid.
  local function is_original(record, begin, idx)
    return record and sub(record, 1, -1 - RECORD_END_LENGTH) == begin and sub(record, -2) == idx
  end

  -- The window that remembers an original as paid: true: the one in force, false: the one before, nil: none.
  local function window_of(field, origin, seq, idx, how, mark)
    field = match(field, '^[^#]+')
    if how == GROUP_PART then
      field = 'g' .. field .. mark
      if (batch.remembered[field] or call('HGET', batch.k_seen, field)) == 'C 0' then return true end
      if call('HGET', batch.k_seen_before, field) == 'C 0' then return false end
      return nil
    end
    idx = sub('A' .. digits_of(idx), -2)
    if how == CREDITED then
      local entry = origin .. '.' .. seq
      local tens, ones = byte(entry, -2, -1)
      local odd = tens % 2
      local mark = string.char(49 + 10 * odd + ones) .. idx .. APPLIED -- 'a' is 97, '0' is 48
      field = sub(entry, 1, -3) .. string.char(tens - odd)
      if find(batch.remembered[field] or '', mark, 1, true) or find(call('HGET', batch.k_seen, field) or '', mark, 1, true) then
        return true
      end
      if find(call('HGET', batch.k_seen_before, field) or '', mark, 1, true) then return false end
      return nil
    end
    local begin = APPLIED .. digits_of(seq + 0)
    if is_original(batch.remembered[field] or call('HGET', batch.k_seen, field), begin, idx) then return true end
    if is_original(batch.remembered_before[field] or call('HGET', batch.k_seen_before, field), begin, idx) then return false end
    return nil
  end

  local function total_in(current, field)
    local known = current and batch.remembered or batch.remembered_before
    return known[TOTAL .. field] or call('HGET', current and batch.k_seen or batch.k_seen_before, TOTAL .. field)
  end

  -- The refunded sum, as far as it is remembered: of an original refunded after it was forgotten, a window has only a
  -- part.
  local function total_of(field)
    return math.max((total_in(true, field) or 0) + 0, (total_in(false, field) or 0) + 0)
  end

  local function keep_total(current, field, minor)
    local text = format('%.0f', minor)
    if current then
      batch.remembered[TOTAL .. field] = text
      record(TOTAL .. field, text)
    else
      batch.remembered_before[TOTAL .. field] = text
    end
  end

  -- Reads the flags of an account that only a detail names.
  local function look_up_flags(account)
    if batch.flags_exist and not batch.flags[account] then
      batch.flags[account] = call('HGET', batch.k_flags, account) or nil
    end
  end
