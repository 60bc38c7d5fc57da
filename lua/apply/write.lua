-- Write: the entry and all its effects. Nothing is refused once the first write has begun.

local clock_text = now_ms == time_ms and time_text or format('%d', now_ms)
local writes = effect or record_count > 0
if REPLAY and (outcomes_text ~= recorded or not writes) then return {'DIFFERS', outcomes_text} end
if not writes then seq_text, nonce = meta[1], nonce_last end
local header = seq_text .. ' ' .. nonce_last .. ' ' .. nonce .. ' ' .. epoch .. ' ' .. clock_text .. ' ' .. window_text
  .. (witnessed_s == '' and '' or '.') .. witnessed_s .. ' ' .. outcomes_text .. rules_text
if writes then
  -- First the keys that this call has not accessed yet: if somebody is migrating the slot, a missing key fails here.
  -- A member of `open` without an entry has no meaning.
  if debited then call('ZADD', k_open, seq_text, seq_text) end
  if not REPLAY then call('XADD', k_journal, seq_text .. '-0', 'header', header, 'operations', operations) end
  writing = true

  local currencies_new
--@extended   if grouping then made.write_groups() end
  ledger = ledger_first
  while ledger do
    local written, n, currency = ledger.written, ledger.written_count, ledger.currency
    if ledger.transit_changed then
      written[n + 1], written[n + 2] = TRANSIT, format('%d', ledger.transit) -- a C long: exact, unlike tostring
      n = n + 2
    end
    if n > 0 then
      call('HSET', ledger.key, unpack(written, 1, n)) -- if an account is written twice, the last value stays
      if currencies_known ~= currency and not find(',' .. currencies_known .. ',', ',' .. currency .. ',', 1, true) then
        currencies_known = currencies_known .. (currencies_known == '' and '' or ',') .. currency
        currencies_new = true
      end
    end
    ledger = ledger.next
  end
  if carries then
    for _, carry in ipairs(carries) do call('HINCRBY', carry[1], carry[2] .. '+', carry[3]) end
  end
--@extended   if holding then
--@extended     batch.record_count = record_count
--@extended     made.write_holds()
--@extended     record_count = batch.record_count
--@extended   end
  if record_count > 0 then call('HSET', k_seen, unpack(records, 1, record_count)) end
  if batch then
    local flags_new = batch.flags_new
    for account, flag in pairs(flags_new) do call('HSET', k_flags, account, flag) end
    for account, place in pairs(batch.noted or nothing) do call('HSET', 'noted' .. tag, account, place) end
--@plain     if next(flags_new) then call('HSET', k_meta, 'flagged', 1) end
--@extended     if next(flags_new) then call('HSET', k_meta, 'flagged', batch.limited and 2 or 1) end
    for field, record in pairs(batch.remembered_before) do call('HSET', k_seen_before, field, record) end
    for part, entry_seq in pairs(batch.refunded) do call('ZADD', k_open, entry_seq, part) end
--@extended     if holding or returning or grouping then
--@extended       for _, each in pairs(ledgers) do made.write_minors(each.k_held, each.held) end
--@extended     end
  end
  if settled then
    local trimmed
    for entry_seq in pairs(settled) do
      call('ZREMRANGEBYSCORE', k_open, entry_seq, entry_seq)
      if not REPLAY and seq_last - entry_seq >= PINNED_ENTRIES_MAX then
        trimmed = trimmed or (call('HGET', k_meta, 'trimmed') or 0) + 0
        if entry_seq + 0 < trimmed then call('XDEL', k_journal, entry_seq .. '-0') end
      end
    end
  end
  call('HSET', k_meta, 'seq', seq_text, 'nonce', nonce, 'clock', clock_text)
  if currencies_new then
    local list = {}
    for currency in gmatch(currencies_known, '[^,]+') do list[#list + 1] = currency end
    table.sort(list)
    call('HSET', k_meta, 'currencies', concat(list, ','))
  end
  if window_asked ~= window then
    call('HSET', k_meta, 'window', window_asked)
    call('HDEL', k_meta, 'witnessed_s')
    call('UNLINK', k_seen_dropped)
  end
  if REPLAY and witnessed_s ~= '' and witnessed_s ~= '0' then call('HSET', k_meta, 'witnessed_s', witnessed_s) end
end
