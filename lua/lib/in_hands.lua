-- Whether the partition is in the hands of the recovery with this epoch: then nobody else has taken it since, and it
-- does not serve. `nonce`: it must be at this nonce, too, if it is given.
local function in_hands(k_meta, epoch, nonce)
  local meta = redis.call('HMGET', k_meta, 'state', 'epoch', 'nonce')
  return meta[1] == 'recovering' and meta[2] == epoch and (not nonce or meta[3] == nonce)
end
