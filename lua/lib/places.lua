-- Reading where a transfer is, and what the stream has there. Needs lib/memory.lua.

-- The entry, as text, and the operation in it, from 0, that a record is of.
local function place_of(record)
  local codes = {string.byte(record, RECORD_PLACE, -1)}
  local seq = 0
  for n = 1, #codes - 2 do seq = seq * DIGITS + (codes[n] - DIGIT_ZERO) end
  return string.format('%.0f', seq), (codes[#codes - 1] - DIGIT_ZERO) * DIGITS + codes[#codes] - DIGIT_ZERO
end

-- Operation idx of an entry's operations as they are in the stream: '"d","<id>",…,"USD"'. `starts`, in the beginning {2},
-- keeps where the operations begin, so that many questions about an entry cost one pass.
local function operation_of(operations, starts, idx)
  for n = #starts, idx + 1 do
    starts[n + 1] = (string.find(operations, '\n', starts[n], true) or #operations + 1) + 1
  end
  return string.sub(operations, starts[idx + 1], starts[idx + 2] - 3)
end
