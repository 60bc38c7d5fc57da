-- Answer: the header of the entry, records of holds, and what is remembered of each repeat.

if not repeated then return header end

local reply_lines, said = {header}, batch and batch.said
--@extended if holding and not REPLAY then made.tell_holds(reply_lines) end
if not repeated[1] then return concat(reply_lines, '\n') end

--@include lib/places.lua

local opened = {} -- open entry -> its header and columns; false if not in the stream
for n = 1, #repeated do
  local i = repeated[n]
  local field = columns[FIELD + i]
  if said and said[i] then
    reply_lines[#reply_lines + 1] = (i - 1) .. ' ' .. said[i]
  elseif kinds[i] == CREDIT then
    reply_lines[#reply_lines + 1] = (i - 1) .. ' ' .. credited[i]
  else
    local record = remembered[field] or recalled[i] or recalled_before[i]
    local outcome, opened_ms = sub(record, 1, 1), '0'
    local entry_seq, idx = place_of(record)
    if kinds[i] == CAPTURE_DEBIT or kinds[i] == RETURN_DEBIT then
      opened_ms = call('ZSCORE', k_open, entry_seq) and '1' or '0' -- what ends it reads the words of its entry
    elseif kinds[i] == DEBIT and call('ZSCORE', k_open, entry_seq) then
      local entry = opened[entry_seq]
      if entry == nil and opened_bytes < OPENED_BYTES_MAX then
        local found = call('XRANGE', k_journal, entry_seq .. '-0', entry_seq .. '-0')[1]
        entry = false
        if found then
          local text = found[2][4]
          entry, opened_bytes = {header = found[2][2], columns = cjson.decode(text)}, opened_bytes + #text
        end
        opened[entry_seq] = entry
      end
      if entry == nil then
        outcome = LOOK_AGAIN
      elseif not entry then
        opened_ms = '1'
      elseif transfer_of(entry.columns, idx + 1) == transfer_of(columns, i) then
        opened_ms = match(entry.header, '^%S+ %S+ %S+ %S+ (%d+) ')
      else
        outcome = CONFLICT
      end
    end
    reply_lines[#reply_lines + 1] = (i - 1) .. ' ' .. outcome .. ' ' .. entry_seq .. '.' .. idx .. ' ' .. opened_ms
  end
end
return concat(reply_lines, '\n')
