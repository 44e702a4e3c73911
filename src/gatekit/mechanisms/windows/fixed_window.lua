-- The twin of fixed_window.py. For a limit with a calendar, `limit.edges` has the edges of three windows in ascending order,
-- of which the one that `now` lies in counts, or the nearest.
local EARLY = 1e-9

local function window(moment, limit)
  local edges = limit.edges
  if edges then
    local at = 1
    while at < #edges - 1 and moment >= edges[at + 1] do
      at = at + 1
    end
    return edges[at], edges[at + 1]
  end
  local period = limit.period
  local index = math.floor(moment / period + EARLY)
  return index * period, (index + 1) * period
end

-- The begin of the window, how long it still is, and what was spent in it.
local function counted(state, now, limit)
  local begin, finish = window(math.max(now, state[1] or now), limit)
  return begin, math.max(0, finish - now), state[1] and state[1] >= begin and state[2] or 0
end

return {
  take = function(state, now, cost, limit, mark)
    local amount = limit.amount
    local begin, rest, spent = counted(state, now, limit)
    if spent + cost > amount then
      local wait = cost <= amount and rest or math.huge
      return state, false, math.max(0, amount - spent), spent > 0 and rest or 0, wait
    end
    spent = spent + cost
    local after = cost == 0 and state or {begin, spent}
    return after, true, amount - spent, spent > 0 and rest or 0, 0
  end,

  charge = function(state, now, cost, limit, mark)
    local begin, _, spent = counted(state, now, limit)
    spent = spent + cost
    return spent > 0 and {begin, spent} or {}
  end,
}
