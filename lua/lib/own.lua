-- Names the node that serves a partition, for this node alone: a replica gets an empty owner. A replica that is promoted,
-- also this node after it was one, may lack entries that are on disk, and must not serve before a recovery.
-- A replica that copies all data (RDB) gets the owner too, until this is done again (witness.lua).
local function own(k_meta, owner)
  redis.call('HSET', k_meta, 'owner', '')
  redis.set_repl(redis.REPL_NONE)
  redis.call('HSET', k_meta, 'owner', owner)
  redis.set_repl(redis.REPL_ALL)
end
