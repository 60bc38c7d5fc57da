-- Who may touch this partition: the current epoch, a live partition, on the very node that recovery certified.
-- Returns a refusal, or nil. A promoted replica or a foreign node has another id than the certified owner. `node_id`: this
-- node's, where the caller knows it.
local function refusal(epoch, asked_epoch, state, owner, node_id)
  if not state then return {'STATE', 'absent'} end
  if epoch ~= asked_epoch then return {'EPOCH', epoch} end
  if state ~= 'live' then return {'STATE', state} end
  if (node_id or redis.call('CLUSTER', 'MYID')) ~= owner then return {'OWNER', owner} end
  return nil
end
