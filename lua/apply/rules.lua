-- Rules: what only some operations need, or accounts with flags. A closure costs a tenth of an operation, and more with each
-- name from around it, so they are made when the first partition of a call needs them (in apply/decide.lua, since what makes
-- them is a closure, too), and serve the others of that call.
-- The operations of the partition at hand, as the rules see them (made in apply/decide.lua); nil where no rule is needed.
local batch
-- By kind: decides operation i of it. Returns its outcome; nil for what is malformed, or nil and another refusal.
local rules = {}
local limit_of, status_of, side_refusal
--@limits local over_limit, with_limit
local balance, added, post, post_transit, record, rewrite
local start_answers, digits_of, next_record_end, answered, remember, available, held, shift_held, write_minors
local read_holds, write_holds, tell_holds
local read_groups, write_groups
