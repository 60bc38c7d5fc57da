-- Under rules 1 and 2 a refusal does not say whether payer or receiver caused it. Needs lib/outcomes.lua.
if REPLAY and ARGV[7] + 0 < 3 then RECEIVER_UNKNOWN, RECEIVER_CLOSED, RECEIVER_FROZEN = UNKNOWN_ACCOUNT, CLOSED, FROZEN end
