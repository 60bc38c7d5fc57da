-- The form of the records of transfers and credits, as in wallet_engine/domain/memory.py.
local RECORD_PLACE = 8 -- where the place of the operation begins
local DIGIT_ZERO, DIGITS = 48, 64
local CREDIT_ZERO, MARK_LENGTH = 97, 3
