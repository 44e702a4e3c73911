-- The twin of concurrency.py. `state` has a mark and an end in turn, whichever ends first first.
local EARLY = 1e-9

local function held_of(state, now, limit, without)
  local held, past = {}, now + limit.period * EARLY
  for at = 1, #state, 2 do
    if state[at + 1] > past and state[at] ~= without then
      held[#held + 1] = state[at]
      held[#held + 1] = state[at + 1]
    end
  end
  return held
end

local function add(held, now, cost, limit, mark)
  local finish = math.max(now + limit.period, held[#held] or 0)
  for _ = 1, cost do
    held[#held + 1] = mark
    held[#held + 1] = finish
  end
end

return {
  take = function(state, now, cost, limit, mark)
    local amount = limit.amount
    local held = held_of(state, now, limit)
    local count = #held / 2
    local over = count + cost - amount
    if over <= 0 then
      if cost ~= 0 then
        add(held, now, cost, limit, mark)
        state = held
      end
      return state, true, amount - count - cost, #held > 0 and held[#held] - now or 0, 0
    end
    local wait = cost <= amount and held[2 * over] - now or math.huge
    return state, false, math.max(0, amount - count), #held > 0 and held[#held] - now or 0, wait
  end,

  charge = function(state, now, cost, limit, mark)
    if cost < 0 then
      return held_of(state, now, limit, mark)
    end
    local held = held_of(state, now, limit)
    add(held, now, math.min(cost, 2 * limit.amount - #held / 2), limit, mark)
    return held
  end,
}
