-- The twin of sliding_log.py. `state` has a time and a cost in turn, oldest first.
local EARLY = 1e-9

local function recent(state, now, limit)
  local moment = math.max(now, state[#state - 1] or now)
  local over, past = 1, moment - limit.period * (1 - EARLY)
  while state[over] and state[over] <= past do
    over = over + 2
  end
  local kept, spent = {}, 0
  for at = over, #state, 2 do
    kept[#kept + 1] = state[at]
    kept[#kept + 1] = state[at + 1]
    spent = spent + state[at + 1]
  end
  return moment, kept, spent
end

local function add(kept, moment, cost, limit)
  local size = #kept
  if size > 0 and (kept[size - 1] == moment or size >= 2 * limit.amount) then
    kept[size - 1] = moment
    kept[size] = kept[size] + cost
  else
    kept[size + 1] = moment
    kept[size + 2] = cost
  end
end

return {
  take = function(state, now, cost, limit, mark)
    local amount, period = limit.amount, limit.period
    local moment, kept, spent = recent(state, now, limit)
    local over = spent + cost - amount
    if over <= 0 then
      if cost ~= 0 then
        add(kept, moment, cost, limit)
        state = kept
      end
      return state, true, amount - spent - cost, #kept > 0 and kept[#kept - 1] + period - now or 0, 0
    end
    local wait = math.huge
    if cost <= amount then
      local at = 1
      while over > kept[at + 1] do
        over = over - kept[at + 1]
        at = at + 2
      end
      wait = kept[at] + period - now
    end
    return state, false, math.max(0, amount - spent), #kept > 0 and kept[#kept - 1] + period - now or 0, wait
  end,

  charge = function(state, now, cost, limit, mark)
    local moment, kept = recent(state, now, limit)
    if cost > 0 then
      add(kept, moment, cost, limit)
      return kept
    end
    while cost < 0 and #kept > 0 do
      local last = kept[#kept]
      if last + cost > 0 then
        kept[#kept] = last + cost
        return kept
      end
      cost = cost + last
      kept[#kept] = nil
      kept[#kept] = nil
    end
    return kept
  end,
}
