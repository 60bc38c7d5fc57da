  -- n: an entry that changes nothing: whether one can be made now, so it passes no limit unseen.
  rules[PROBE] = function()
    if not REPLAY then
      local entries = call('XLEN', batch.k_journal) - call('ZCARD', batch.k_open)
      if entries >= entries_max then return nil, {'FULL', entries} end
    end
    batch.effect = true
    return APPLIED
  end
