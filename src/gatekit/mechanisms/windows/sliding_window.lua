-- The twin of sliding_window.py.
local SLACK, EARLY = 1e-6, 1e-9

local function counts(state, now, limit)
  local index = math.floor(now / limit.period + EARLY)
  local last = state[1]
  if not last then
    return index, 0, 0
  end
  if index <= last then
    return last, state[2], state[3]
  end
  return index, 0, index == last + 1 and state[2] or 0
end

return {
  take = function(state, now, cost, limit, mark)
    local amount, period = limit.amount, limit.period
    local index, spent, before = counts(state, now, limit)
    local since = now - index * period
    local weighed = since > 0 and spent + before * (1 - since / period) or spent + before
    local allowed = weighed + cost - amount <= SLACK
    local wait = 0
    if allowed then
      spent = spent + cost
      weighed = weighed + cost
    elseif cost > amount then
      wait = math.huge
    elseif spent + cost <= amount then
      wait = (1 - (amount - cost - spent) / before) * period - since
    else
      wait = (2 - (amount - cost) / spent) * period - since
    end
    local reset = 0
    if spent > 0 then
      reset = 2 * period - since
    elseif before > 0 then
      reset = period - since
    end
    local after = allowed and cost ~= 0 and {index, spent, before} or state
    return after, allowed, math.max(0, math.floor(amount - weighed + SLACK)), reset, wait
  end,

  charge = function(state, now, cost, limit, mark)
    local index, spent, before = counts(state, now, limit)
    spent = spent + cost
    if spent < 0 then
      before, spent = math.max(0, before + spent), 0
    end
    return (spent > 0 or before > 0) and {index, spent, before} or {}
  end,
}
