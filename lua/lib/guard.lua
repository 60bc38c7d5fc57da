-- Returns a refusal, or nil if the epoch is current and the partition is live on the node that recovery certified.
-- A promoted replica or a foreign node has another id than the certified owner. `node_id`: this node's, if the caller
-- knows it.
local function refusal(epoch, asked_epoch, state, owner, node_id)
  if not state then return {'STATE', 'absent'} end
  if epoch ~= asked_epoch then return {'EPOCH', epoch} end
  if state ~= 'live' then return {'STATE', state} end
  if (node_id or redis.call('CLUSTER', 'MYID')) ~= owner then return {'OWNER', owner} end
  return nil
end
