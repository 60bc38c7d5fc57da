-- forget: delete a key from the replicas of a node that does not have the key. UNLINK of an absent key is not sent to
-- replicas; SET and UNLINK are. One step, because a recovery could create the key between them.
--
-- KEYS  1 the key
-- Returns 1, or 0 when the node has the key

local key = KEYS[1]

if redis.call('TYPE', key).ok ~= 'none' then return 0 end
redis.call('SET', key, '')
redis.call('UNLINK', key)
return 1
