-- The letters of the operations, as bytes, that apply/ itself names. A constant is a step of Lua in every partition of a call.
local TRANSFER, DEBIT, CREDIT, SETTLE, SET_FLAGS, PROBE, CAPTURE_DEBIT, RETURN_DEBIT = 116, 100, 99, 115, 102, 110, 113, 122
