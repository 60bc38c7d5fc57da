-- The form of a transfer's record, as in wallet_engine/domain/memory.py.
local RECORD_PLACE = 8 -- where the place of the operation begins
local DIGIT_ZERO, DIGITS = 48, 64
