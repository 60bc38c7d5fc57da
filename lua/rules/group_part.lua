  -- p: sets aside what the legs need, if none is refused. Tells of a refusal '<outcome> <index>', of a repeat
  -- '<P under way, C paid or B given back> <attempt>'.
  rules[PREPARE] = function(i, _, account, detail)
    local mark, attempt, _, legs = unpack(batch.words[i] or NO_WORDS)
    if not legs or not legs[1] then return nil end
    local key = batch.columns[FIELD + i] .. mark
    local group, status, words = group_of(key)
    local last
    if group then
      last = match(words, '^%S-:(%d+):')
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
    keep_group(key, 'P', account, i, detail)
    return APPLIED
  end

  -- y: pays what was set aside for exactly these words.
  rules[COMMIT] = function(i, _, _, detail)
    local mark, _, _, legs = unpack(batch.words[i] or NO_WORDS)
    if not legs then return nil end
    local key = batch.columns[FIELD + i] .. mark
    local _, status, words = group_of(key)
    if status ~= 'P' or words ~= detail then return REPEATED end
    if not have_room(legs, 3) then return BALANCE_LIMIT end
    pay(legs, true)
    end_group(key)
    memorize(key, 'C 0')
    return APPLIED
  end

  -- b: gives back what was set aside; if nothing was yet, this attempt never will set anything aside.
  rules[ABORT] = function(i, _, _, detail)
    local mark, attempt, _, legs = unpack(batch.words[i] or NO_WORDS)
    if not legs then return nil end
    local key = batch.columns[FIELD + i] .. mark
    local group, status, words = group_of(key)
    if group then
      local last, at = match(words, '^%S-:(%d+):[^:]+:()')
      local _, own_at = match(detail, '^%S-:(%d+):[^:]+:()')
      if status ~= 'P' or last + 0 > attempt + 0 or sub(words, at) ~= sub(detail, own_at) then return REPEATED end
      if not have_room(legs, 2) then return BALANCE_LIMIT end
      set_aside(legs, -1)
      end_group(key)
    else
      local last
      status, last = match(memory_of(key) or '', '^(%u) (%d+)$')
      if status == 'C' or status and last + 0 >= attempt + 0 then return REPEATED end
      batch.effect = true
    end
    memorize(key, 'B ' .. attempt)
    return APPLIED
  end
