-- Names and bounds that the rules and apply/ share.
local AMOUNT_MAX, AMOUNT_MIN = 9007199254740991, -9007199254740991
local OPERATIONS_MAX = 1500 -- unpack() fails near 8,000 values; an operation writes at most two accounts
local STRIPE_LIMB = AMOUNT_MAX + 1 -- minor units that 1 in '<account>+' stands for
local TRANSIT = '@transit'
local SYSTEM = 64 -- '@', the first character of a system account
local FIELD = 4 -- the field of operation i is columns[FIELD + i]
