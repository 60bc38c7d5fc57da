  -- n: an entry that changes nothing: whether one can be made now, so it passes no limit unseen.
  rules[PROBE] = function()
    if not REPLAY then
      local length = call('XLEN', k_journal)
      if length >= entries_max_text + 0 then return nil, {'FULL', length} end
    end
    effect = true
    return APPLIED
  end
