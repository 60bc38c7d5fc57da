-- The outcome characters that apply/ itself names.
local APPLIED = '+'
local REPEATED = '='
local CONFLICT = '!'
local UNKNOWN_ACCOUNT = 'a'
local INSUFFICIENT_FUNDS = 'i'
local BALANCE_LIMIT = 'l'
local RECEIVER_UNKNOWN = 'g'
