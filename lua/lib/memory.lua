-- The format of the records of transfers and credits, as in wallet_engine/domain/memory.py.
local DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
local FINGERPRINT_LENGTH, RECORD_END_LENGTH = 6, 8 -- a record ends in its fingerprint and two digits
local PAYER_LENGTH = 8 -- the end of a transfer's field
local MARK_LENGTH = 3
local HOLD_RECORD = 'H' -- in place of the outcome of a hold placed or increased, which is no transfer
