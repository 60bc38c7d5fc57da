-- Names of the partition's keys, as in wallet_engine/redis_store/keys.py.
local BALANCE_OF, HELD_OF, PENDING_OF, CURRENCY_LENGTH = 'balance:', 'held:', 'pending:', 3 -- balance:USD{tag}
local k_meta, k_journal, k_open = 'meta' .. tag, 'journal' .. tag, 'open' .. tag
local k_flags -- set if flags exist or may be written
local k_seen = 'seen:' .. window_text .. tag -- of the window in force
local k_seen_before, k_seen_dropped -- of the window before; of the one before that, deleted when the window rotates
if window_asked > 1 or extended then
  k_seen_before, k_seen_dropped = format('seen:%d%s', window_asked - 1, tag), format('seen:%d%s', window_asked - 2, tag)
end
--@extended local k_hold, k_due, k_group
--@extended if extended then k_hold, k_due, k_group = 'hold' .. tag, 'due' .. tag, 'group' .. tag end
