-- Rules: what only some operations need, or accounts with flags. A closure costs a tenth of an operation, so they are made when
-- the first partition of a call needs them, and serve the others of that call, too.

-- The operations of the partition at hand, as the rules see them (made in apply/decide.lua); nil where no rule is needed.
local batch
-- By kind: decides operation i of it. Returns its outcome; nil for what is malformed, or nil and another refusal.
local rules = {}

local limit_of, status_of, side_refusal
--@limits local over_limit, with_limit
local function make_accounts()
--@include lib/outcomes.lua
--@include lib/sides.lua
--@include lib/bounds.lua
--@include lib/accounts.lua
end

local balance, added, post, post_transit, record, rewrite
local function make_rules()
--@include lib/kinds.lua
--@include lib/outcomes.lua
--@include lib/bounds.lua
--@include lib/posting.lua
--@include rules/refund.lua
--@include rules/open_account.lua
--@limits --@include rules/set_limits.lua
--@include rules/set_flags.lua
--@include rules/probe.lua
end

local start_answers, digits_of, next_record_end, answered, remember, available, held, shift_held, write_minors
local function make_answers()
--@include lib/outcomes.lua
--@include lib/memory.lua
--@include lib/bounds.lua
--@include lib/answers.lua
end

local read_holds, write_holds, tell_holds
local function make_holds()
--@include lib/kinds.lua
--@include lib/outcomes.lua
--@include lib/memory.lua
--@include lib/bounds.lua
--@include lib/holds.lua
--@include rules/hold.lua
--@include rules/capture.lua
--@include rules/capture_end.lua
--@include rules/void.lua
end

local function make_returns()
--@include lib/kinds.lua
--@include lib/outcomes.lua
--@include lib/memory.lua
--@include lib/bounds.lua
--@include lib/returns.lua
--@include rules/return.lua
end

local read_groups, write_groups
local function make_groups()
--@include lib/kinds.lua
--@include lib/outcomes.lua
--@include lib/memory.lua
--@include lib/bounds.lua
--@include lib/groups.lua
--@include rules/group.lua
--@include rules/group_part.lua
end
