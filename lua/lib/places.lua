-- Finding the operation of a record in the stream. Needs lib/memory.lua.

-- The seq, as text, and the idx, from 0, of the operation that a record is of.
local function place_of(record)
  local function number(digits)
    local value = 0
    for digit in string.gmatch(digits, '.') do value = value * 64 + string.find(DIGITS, digit, 1, true) - 1 end
    return value
  end
  return string.format('%.0f', number(string.sub(record, 2, -1 - RECORD_END_LENGTH))), number(string.sub(record, -2))
end

-- Position of an operation -> receiver of a transfer or debit, detail of another kind.
local function receivers_of(columns)
  local kinds, of_debits = columns[1], string.gmatch(columns[3], '%S+')
  local receivers, of_transfers, of_details = {}, 4 + 2 * #kinds, 4 + 2 * #kinds + columns[4]
  for i = 1, #kinds do
    local kind = string.sub(kinds, i, i)
    if kind == 'd' then
      receivers[i] = of_debits()
    elseif kind == 't' then
      of_transfers = of_transfers + 1
      receivers[i] = columns[of_transfers]
    elseif kind ~= 's' then
      of_details = of_details + 1
      receivers[i] = columns[of_details]
    end
  end
  return receivers
end

-- Operation i (from 1; it has a transaction id) of an entry's columns as a line: 'd <id> alice bob 5 USD'.
local function transfer_of(columns, i)
  columns.receivers = columns.receivers or receivers_of(columns)
  local kinds, currency, count = columns[1], columns[2], #columns[1]
  return table.concat({string.sub(kinds, i, i), string.sub(columns[4 + i], 1, -1 - PAYER_LENGTH), columns[4 + count + i],
    columns.receivers[i], string.format('%.0f', columns[4 + count + columns[4] + i]),
    type(currency) == 'table' and currency[i] or currency}, ' ')
end
