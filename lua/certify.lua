-- certify: let a recovered partition serve, if it is still in the state that recovery compared with the journal.
-- One step, because a node may lose its memory between the comparison and the certificate.
--
-- KEYS  1 meta
-- ARGV  1 seq  2 nonce  3 epoch  4 owner
-- Returns 1, or 0 when the partition is no longer at this seq and nonce, was condemned meanwhile, is not recovering any
--       more, or is in the hands of a recovery of a newer epoch: then this one was overtaken

local k_meta = KEYS[1]
local seq, nonce, epoch, owner = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local meta = redis.call('HMGET', k_meta, 'seq', 'nonce', 'fault', 'state', 'epoch')
if meta[1] ~= seq or meta[2] ~= nonce or meta[3] then return 0 end
if meta[4] ~= 'recovering' or (tonumber(meta[5]) or 0) > tonumber(epoch) then return 0 end
redis.call('HSET', k_meta, 'epoch', epoch, 'owner', owner, 'state', 'live')
return 1
