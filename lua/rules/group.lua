  -- m: a group with all accounts here. g: home decides whether a group happens, and pays its legs here. The first
  -- decision stands; a refusal elsewhere, or an interruption, is a decision too.
  -- Tells '<decision> <index of the leg that was refused, or -> <attempt>'.
  local function decide_group(i, account, detail)
    local mark, attempt, word, legs, _, elsewhere = unpack(batch.words[i] or NO_WORDS)
    local leg_elsewhere, code = match(word or '', '^a%.(%d+)%.(%l)$')
    if not legs or word ~= 'c' and word ~= 'r' and not code then return nil end
    local record_end = next_record_end()
    local field = batch.columns[FIELD + i]
    local old = batch.remembered[field] or batch.recalled[i] or batch.recalled_before[i]
    -- A group that parts must still pay outlasts the memory, and whatever its id is used for after that.
    local _, status, words = group_of(field .. mark)
    local is_paid = status == 'C' and batch.kinds[i] == DECIDE_GROUP
--@replay     is_paid = is_paid and (batch.rules > 5 or not old)
    if is_paid then
      tell(i, APPLIED, NO_LEG, match(words, '^%S-:(%d+):'))
      return REPEATED
    end
    if old then
      local leg, known_mark, last = match(memory_of(field) or '', '^(%S+) (%S-):(%d+):')
      if known_mark ~= mark then return CONFLICT end
      local decision = sub(old, 1, 1)
      if decision ~= INTERRUPTED or last + 0 >= attempt + 0 then
        tell(i, decision, leg, last)
        return REPEATED
      end
    end
    local refused, leg, role = nil, NO_LEG, nil
    if word == 'r' then
      refused = INTERRUPTED
    else
      refused, leg, role = first_refusal(legs)
      -- The lowest leg counts; within a leg, its payer comes first.
      if code and (not refused or leg_elsewhere + 0 < leg + 0 or leg_elsewhere == leg and role == 'r') then
        refused, leg = code, leg_elsewhere
      end
      leg = refused and leg or NO_LEG
    end
    remember(i, refused or APPLIED, record_end)
    memorize(field, leg .. ' ' .. detail)
    if refused then
      tell(i, refused, leg, attempt)
      return refused
    end
    pay(legs, false)
    if elsewhere then keep_group(field .. mark, 'C', account, i, detail) end
    return APPLIED
  end

  rules[GROUP] = function(i, _, account, detail) return decide_group(i, account, detail) end
  rules[DECIDE_GROUP] = rules[GROUP]

  -- w: forgets a group, all of whose parts have ended.
  rules[FORGET] = function(i)
    local words = batch.words[i]
    if not words then return nil end
    local key = batch.columns[FIELD + i] .. words[1]
    local _, status = group_of(key)
    if status ~= 'C' then return REPEATED end
    end_group(key)
    return APPLIED
  end
