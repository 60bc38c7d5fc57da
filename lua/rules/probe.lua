  -- n: an entry that changes nothing: whether one can be made now, so it passes no limit unseen.
  rules[PROBE] = function()
    if not REPLAY then
      local entries = call('XLEN', k_journal) - call('ZCARD', k_open)
      if entries >= entries_max then return nil, {'FULL', entries} end
    end
    effect = true
    return APPLIED
  end
