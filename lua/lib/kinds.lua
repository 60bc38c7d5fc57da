-- The letters of the operations, as bytes: wallet_engine/domain/kinds.py says what each has beside its rules. They are
-- written as numbers, since every call of the script would pay for looking them up.
--@include lib/common_kinds.lua
local OPEN_ACCOUNT, REFUND = 111, 114
local HOLD, INCREASE, CAPTURE, UNCAPTURE, FINISH_HOLD, VOID, EXPIRE = 104, 105, 107, 117, 108, 118, 101
local RETURN, UNRETURN = 120, 106
-- Those of groups are in lib/groups.lua: only there are they needed, and the script has few names left.
local SET_LIMITS = 97
