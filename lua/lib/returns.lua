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

  -- A total is what has gone back of an original; its name is '<field>@<place>'. Rules before 6 had one total under the
  -- field, for all uses of an id. It is still kept, with a '0' in front, for programs of those rules; without the '0' such
  -- a program has kept it, and it counts.
  local ZERO = 48

  local function name_of_total(field, place) return field .. '@' .. place end

  local function total_in(current, name)
    local known = current and batch.remembered or batch.remembered_before
    return known[TOTAL .. name] or call('HGET', current and batch.k_seen or batch.k_seen_before, TOTAL .. name)
  end

  local function largest(name)
    return math.max((total_in(true, name) or 0) + 0, (total_in(false, name) or 0) + 0)
  end

  -- The refunded sum, as far as it is remembered: of an original refunded after it was forgotten, a window has only a
  -- part.
  local function total_of(field, name)
--@replay     if batch.rules < 6 then return largest(field) end
    local total = largest(name)
    for _, current in ipairs({true, false}) do
      local of_id = total_in(current, field)
      if of_id and byte(of_id) ~= ZERO then total = math.max(total, of_id + 0) end
    end
    return total
  end

  local function keep_total(current, name, minor, mark)
    local text = mark .. format('%.0f', minor)
    if current then
      batch.remembered[TOTAL .. name] = text
      record(TOTAL .. name, text)
    else
      batch.remembered_before[TOTAL .. name] = text
    end
  end

  local function mark_of(text) return (not text or byte(text) == ZERO) and '0' or '' end

  -- `total` had gone back, and `minor` now does.
  local function raise_total(current, field, name, total, minor)
--@replay     if batch.rules < 6 then return keep_total(current, field, total + minor, '') end
    local of_id = math.min(math.max(largest(field), total) + minor, AMOUNT_MAX)
    keep_total(current, field, of_id, mark_of(total_in(current, field)))
    keep_total(current, name, total + minor, '')
  end

  -- Lowers those of both windows.
  local function lower_total(name, minor, is_of_id)
    for _, current in ipairs({true, false}) do
      local total = total_in(current, name)
      if total then keep_total(current, name, math.max(0, total - minor), is_of_id and mark_of(total) or '') end
    end
  end

  -- Reads the flags of an account that only a detail names.
  local function look_up_flags(account)
    if batch.flags_exist and not batch.flags[account] then
      batch.flags[account] = call('HGET', batch.k_flags, account) or nil
    end
  end
