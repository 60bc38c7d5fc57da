-- Of entries of rules 1 and 2, a refusal does not say whose account it is about. Needs lib/outcomes.lua.
if REPLAY and ARGV[7] + 0 < 3 then RECEIVER_UNKNOWN, RECEIVER_CLOSED, RECEIVER_FROZEN = UNKNOWN_ACCOUNT, CLOSED, FROZEN end
