-- Several calls to counters as one step. Above this stands the table `algorithms`, one entry for each way to count.
--
-- KEYS: the counters that are asked for, each once.
-- ARGV[1]: JSON, {limits, calls}. A limit is {algorithm, amount, period} and, with a calendar, the edges of its windows.
--   A call is {kind, key, limit, cost, mark, key, limit, cost, mark, ...}; keys and limits are told by their places.
-- Returned: one text of numbers. How many keys held what is no state, then four for each ask of a take: allowed,
--   remaining, reset_after, retry_after; a lease has what was granted in place of allowed, and is about a cost of 1.
--
-- Nothing is written before every call has been computed, so an error leaves everything as it was.
local TAKE, CHARGE, RESET, LEASE = 0, 1, 2, 3
local MARGIN = 1000 -- milliseconds that a key lives on when it has come to say nothing
local LONGEST = 2 ^ 53
local ANSWER = '%d %d %.17g %.17g'

local function same(number)
  return string.format('%.17g', number)
end

-- Numbers with spaces between them; nil where it is anything else.
local function parsed(text)
  local state, count = {}, 0
  for word in string.gmatch(text, '%S+') do
    local number = tonumber(word)
    if not number or number ~= number or number == math.huge or number == -math.huge then
      return nil
    end
    count = count + 1
    state[count] = number
  end
  return count > 0 and state or nil
end

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

local given = cjson.decode(ARGV[1])
local limits = {}
for place, limit in ipairs(given[1]) do
  limits[place] = {count = algorithms[limit[1]], amount = limit[2], period = limit[3], edges = limit[4]}
end

local states, changed, foreign = {}, {}, 0

local function state_of(key)
  local state = states[key]
  if state == nil then
    local found = redis.pcall('GET', KEYS[key])
    if type(found) == 'string' then
      state = parsed(found)
    elseif type(found) == 'table' and not string.find(found.err, '^WRONGTYPE') then
      error(found.err, 0)
    elseif not found then
      state = {}
    end
    if state == nil then
      foreign = foreign + 1
      state = {}
    end
    states[key] = state
  end
  return state
end

-- What an algorithm says of a state. Numbers that are no state of its own are nothing spent.
local function counted(what, key, limit, cost, mark)
  local state = state_of(key)
  local count = limit.count[what]
  local whole, after, allowed, remaining, reset, wait = pcall(count, state, now, cost, limit, mark)
  if not whole then
    if #state == 0 then
      error(after, 0)
    end
    foreign = foreign + 1
    states[key] = {}
    after, allowed, remaining, reset, wait = count(states[key], now, cost, limit, mark)
  end
  return after, allowed, remaining, reset, wait
end

local function kept(key, state, limit)
  states[key] = state
  changed[key] = limit
end

local told = {}

local function tell(first, remaining, reset, wait)
  told[#told + 1] = string.format(ANSWER, first, remaining, reset, wait)
end

-- Where one ask does not fit, those that would have fitted are told what there is, which stays as it is.
local function take(call)
  local after, denied = {}, false
  local first = #told
  for at = 2, #call, 4 do
    local state, allowed, remaining, reset, wait = counted('take', call[at], limits[call[at + 1]], call[at + 2], call[at + 3])
    after[at] = allowed and state
    denied = denied or not allowed
    tell(allowed and 1 or 0, remaining, reset, wait)
  end
  for at = 2, #call, 4 do
    local key, limit, cost = call[at], limits[call[at + 1]], call[at + 2]
    if after[at] and cost ~= 0 then
      if denied then
        local _, _, remaining, reset = counted('take', key, limit, 0, 0)
        told[first + (at + 2) / 4] = string.format(ANSWER, 1, remaining, reset, 0)
      else
        kept(key, after[at], limit)
      end
    end
  end
end

-- As much of the cost as there is.
local function lease(call)
  for at = 2, #call, 4 do
    local key, limit, granted = call[at], limits[call[at + 1]], call[at + 2]
    local state, allowed, remaining = counted('take', key, limit, granted, 0)
    if not allowed then
      granted = remaining
      if granted > 0 then
        state, allowed = counted('take', key, limit, granted, 0)
      end
    end
    if allowed and granted > 0 then
      kept(key, state, limit)
    else
      granted = 0
    end
    local _, more, left, reset, wait = counted('take', key, limit, 1, 0)
    tell(granted, more and left + 1 or left, reset, wait)
  end
end

for _, call in ipairs(given[2]) do
  local kind = call[1]
  if kind == TAKE then
    take(call)
  elseif kind == LEASE then
    lease(call)
  else
    for at = 2, #call, 4 do
      local key, limit = call[at], limits[call[at + 1]]
      kept(key, kind == RESET and {} or counted('charge', key, limit, call[at + 2], call[at + 3]), limit)
    end
  end
end

for key, limit in pairs(changed) do
  local state = states[key]
  local left = 0
  if #state > 0 then
    local _, _, _, reset = limit.count.take(state, now, 0, limit, 0)
    left = reset
  end
  if left > 0 then
    local text = {}
    for place, number in ipairs(state) do
      text[place] = same(number)
    end
    redis.call('SET', KEYS[key], table.concat(text, ' '), 'PX', string.format('%.0f', math.min(LONGEST, math.ceil(left * 1000) + MARGIN)))
  else
    redis.call('DEL', KEYS[key])
  end
end

return foreign .. ' ' .. table.concat(told, ' ')
