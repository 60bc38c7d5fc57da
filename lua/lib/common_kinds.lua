-- Letters of operations, as bytes: only those that apply/ names, as each constant costs every partition of a call.
local TRANSFER, DEBIT, CREDIT, SETTLE, SET_FLAGS, PROBE, CAPTURE_DEBIT, RETURN_DEBIT = 116, 100, 99, 115, 102, 110, 113, 122
