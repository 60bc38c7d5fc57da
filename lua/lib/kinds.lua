-- The letters of the operations, as bytes: wallet_engine/domain/kinds.py says what each has beside its rules.
local OPEN_ACCOUNT, TRANSFER, DEBIT, CREDIT, REFUND, SETTLE, SET_FLAGS, PROBE = string.byte('otdcrsfn', 1, 8)
local HOLD, INCREASE, CAPTURE, CAPTURE_DEBIT, UNCAPTURE, FINISH_HOLD, VOID, EXPIRE = string.byte('hikqulve', 1, 8)
