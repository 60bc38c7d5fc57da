-- The letters of the operations, as bytes; wallet_engine/domain/kinds.py has all about them except the rules. They are
-- written as numbers, because every call of the script would pay for looking them up.
--@include lib/common_kinds.lua
local OPEN_ACCOUNT, REFUND = 111, 114
local HOLD, INCREASE, CAPTURE, UNCAPTURE, FINISH_HOLD, VOID, EXPIRE = 104, 105, 107, 117, 108, 118, 101
local RETURN, UNRETURN = 120, 106
-- Those of groups are in lib/groups.lua, the only user: the script has few local names left.
local SET_LIMITS = 97
