-- Names and bounds that the rules share with what calls them.
local AMOUNT_MAX, AMOUNT_MIN = 9007199254740991, -9007199254740991
local OPERATIONS_MAX = 1500 -- unpack() fails near 8,000 values; an operation writes two accounts at most
local STRIPE_LIMB = AMOUNT_MAX + 1 -- what one unit in '<account>+' stands for
local TRANSIT = '@transit'
local SYSTEM = 64 -- '@', with which a system account begins
local FIELD = 4 -- operation i has its field at FIELD + i of the columns
