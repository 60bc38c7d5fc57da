-- certify: let a recovered partition serve, if it is still in the state that recovery compared with the journal.
-- One step, because a node may lose its memory between the comparison and the certificate.
--
-- KEYS  1 meta
-- ARGV  1 seq  2 nonce  3 epoch of the recovery  4 owner
-- Returns 1, or 0 when the partition is no longer at this seq and nonce, was condemned meanwhile, or is no longer in
--       the hands of this recovery: then another one has overtaken it

--@include lib/in_hands.lua
--@include lib/own.lua

local k_meta = KEYS[1]
local seq, nonce, epoch, owner = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local meta = redis.call('HMGET', k_meta, 'seq', 'fault')
if meta[1] ~= seq or meta[2] or not in_hands(k_meta, epoch, nonce) then return 0 end
redis.call('HSET', k_meta, 'state', 'live')
own(k_meta, owner)
return 1
