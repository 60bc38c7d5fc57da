-- The letters of the operations, as bytes: wallet_engine/domain/kinds.py says what each has beside its rules. They are
-- written as numbers, since every call of the script would pay for looking them up.
local OPEN_ACCOUNT, TRANSFER, DEBIT, CREDIT, REFUND, SETTLE, SET_FLAGS, PROBE = 111, 116, 100, 99, 114, 115, 102, 110
local HOLD, INCREASE, CAPTURE, CAPTURE_DEBIT, UNCAPTURE, FINISH_HOLD, VOID, EXPIRE = 104, 105, 107, 113, 117, 108, 118, 101
local RETURN, RETURN_DEBIT, UNRETURN = 120, 122, 106
-- Those of groups are in lib/groups.lua: only there are they needed, and the script has few names left.
local SET_LIMITS = 97
