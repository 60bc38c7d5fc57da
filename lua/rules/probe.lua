  -- n: an entry that changes nothing. It shows whether one can be made now, so it checks the stream's limit every time.
  rules[PROBE] = function()
    if not REPLAY then
      local entries = call('XLEN', batch.k_journal) - call('ZCARD', batch.k_open)
      if entries >= entries_max then return nil, {'FULL', entries} end
    end
    batch.effect = true
    return APPLIED
  end
