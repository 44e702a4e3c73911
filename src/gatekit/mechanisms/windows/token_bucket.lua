-- The twin of token_bucket.py. `state` is a table of numbers, empty where nothing was spent; `limit` has amount, period and,
-- for a limit with a calendar, edges. Returned is the new state, or the same one, then what a Taken has.
local SLACK = 1e-6

local function leaked(state, now, limit)
  local spent, at = state[1] or 0, state[2] or now
  if now > at then
    spent = math.max(0, spent - (now - at) * limit.amount / limit.period)
    at = now
  end
  return spent, at
end

return {
  take = function(state, now, cost, limit, mark)
    local amount, period = limit.amount, limit.period
    local spent, at = leaked(state, now, limit)
    local over = spent + cost - amount
    if over > SLACK then
      local wait = cost <= amount and over * period / amount or math.huge
      return state, false, math.floor(math.max(0, amount - spent + SLACK)), spent * period / amount, wait
    end
    spent = spent + cost
    local after = cost == 0 and state or {spent, at}
    return after, true, math.floor(math.max(0, amount - spent + SLACK)), spent * period / amount, 0
  end,

  charge = function(state, now, cost, limit, mark)
    local spent, at = leaked(state, now, limit)
    spent = spent + cost
    return spent > 0 and {spent, at} or {}
  end,
}
