-- The format of the records of transfers and credits, as in wallet_engine/domain/memory.py.
--@include lib/digits.lua
local FINGERPRINT_LENGTH = 6
local PAYER_LENGTH = 8 -- the end of a transfer's field
local MARK_LENGTH = 3
local HOLD_RECORD = 'H' -- in place of the outcome of a hold placed or increased, which is no transfer
