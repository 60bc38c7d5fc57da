-- Rules: what only some operations need, or accounts with flags. A closure costs a tenth of an operation, and so does
-- each upvalue. `apply`, which is made in every call, has two upvalues from here and none of the rules' own names. The
-- rules are made when the first partition of a call needs them, and serve the other partitions of that call.
local made -- what make_rules() has made; nil until a partition needs it

local function make_rules()
  local byte, find, match, sub, gmatch = string.byte, string.find, string.match, string.sub, string.gmatch
  local format, concat = string.format, table.concat
  local call, unpack = redis.call, unpack

  local batch -- the operations of the current partition, as the rules see them (made in apply/decide.lua)
  -- Kind -> function that decides operation i. Returns its outcome; nil if it is malformed, or nil and another refusal.
  local rules = {}
  local limit_of, status_of, side_refusal
--@extended   local over_limit, with_limit
  local balance, added, post, post_transit, record, digits_of, rewrite
--@extended   local start_answers, next_record_end, answered, remember, available, held, shift_held, write_minors
--@extended   local read_holds, write_holds, tell_holds
--@extended   local read_groups, write_groups

  local made = {rules = rules}

  function made.look_at_flags()
    if side_refusal then return end
--@include lib/outcomes.lua
--@include lib/sides.lua
--@include lib/bounds.lua
--@include lib/accounts.lua
    made.side_refusal, made.limit_of = side_refusal, limit_of
--@extended     made.over_limit = over_limit
  end

  -- From here on the rules decide `operations`.
  function made.start(operations)
    batch = operations
    if rewrite then return end
--@include lib/kinds.lua
--@include lib/outcomes.lua
--@include lib/digits.lua
--@include lib/bounds.lua
--@include lib/posting.lua
--@include rules/refund.lua
--@include rules/open_account.lua
--@extended --@include rules/set_limits.lua
--@extended --@include rules/set_flags.lua
--@include rules/probe.lua
  end

--@extended   function made.start_answers()
--@extended     if not answered then
--@extended --@include lib/outcomes.lua
--@extended --@include lib/memory.lua
--@extended --@include lib/bounds.lua
--@extended --@include lib/answers.lua
--@extended       made.write_minors = write_minors
--@extended     end
--@extended     start_answers()
--@extended   end

--@extended   function made.read_holds(account_at, detail_at)
--@extended     if not read_holds then
--@extended --@include lib/kinds.lua
--@extended --@include lib/outcomes.lua
--@extended --@include lib/memory.lua
--@extended --@include lib/bounds.lua
--@extended --@include lib/holds.lua
--@extended --@include rules/hold.lua
--@extended --@include rules/capture.lua
--@extended --@include rules/capture_end.lua
--@extended --@include rules/void.lua
--@extended       made.write_holds, made.tell_holds = write_holds, tell_holds
--@extended     end
--@extended     read_holds(account_at, detail_at)
--@extended   end

--@extended   function made.return_money()
--@extended --@include lib/kinds.lua
--@extended     if rules[RETURN] then return end
--@extended --@include lib/outcomes.lua
--@extended --@include lib/memory.lua
--@extended --@include lib/bounds.lua
--@extended --@include lib/returns.lua
--@extended --@include rules/return.lua
--@extended   end

--@extended   function made.read_groups(detail_at)
--@extended     if not read_groups then
--@extended --@include lib/kinds.lua
--@extended --@include lib/outcomes.lua
--@extended --@include lib/memory.lua
--@extended --@include lib/bounds.lua
--@extended --@include lib/groups.lua
--@extended --@include rules/group.lua
--@extended --@include rules/group_part.lua
--@extended       made.write_groups = write_groups
--@extended     end
--@extended     read_groups(detail_at)
--@extended   end

  return made
end
