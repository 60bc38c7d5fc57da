  -- What is remembered of many operations, each field read once: credits of one payer's entries share one, which may be long.
  local fields, place, n = {}, {}, 0
  for i = 1, count do
    local field = columns[FIELD + i]
    if not place[field] and kinds[i] ~= SETTLE then
      n = n + 1
      fields[n], place[field] = field, n
    end
  end

  function recall(key)
    local read, by_operation = call('HMGET', key, unpack(fields, 1, n)), {}
    for i = 1, count do by_operation[i] = read[place[columns[FIELD + i]]] end
    return by_operation
  end
