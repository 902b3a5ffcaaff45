-- Adds, removes, pauses and resumes entries of beat.
-- KEYS: entries, marks, paused, revision. ARGV: what to do, the most entries there may be, then names, for 'put' each with its entry.
-- Answers how many entries were there; -1 when there would be too many.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local order, there = ARGV[1], 0
-- What was due while nobody wanted it is not made up for: it goes on from now. A mark ahead of now stays.
local function go_on(name)
  local mark = redis.call('HGET', KEYS[2], name) or '0 0 -'
  local due, rest = string.match(mark, '^(%S+)(.*)$')
  if tonumber(due) < tonumber(now) then redis.call('HSET', KEYS[2], name, now .. rest) end
end
local function is_off(entry)
  local read, said = pcall(cjson.decode, entry)
  return read and type(said) == 'table' and said.enabled == false
end
if order == 'put' then
  if redis.call('HLEN', KEYS[1]) + (#ARGV - 2) / 2 > tonumber(ARGV[2]) then return -1 end
  for at = 3, #ARGV, 2 do
    local name, old = ARGV[at], redis.call('HGET', KEYS[1], ARGV[at])
    if redis.call('HSET', KEYS[1], name, ARGV[at + 1]) == 0 then there = there + 1 end
    if redis.call('HSETNX', KEYS[2], name, now .. ' 0 -') == 0 and old and is_off(old) and not is_off(ARGV[at + 1]) then go_on(name) end
  end
else
  for at = 3, #ARGV do
    local name = ARGV[at]
    if redis.call('HEXISTS', KEYS[1], name) == 1 then
      there = there + 1
      if order == 'remove' then
        redis.call('HDEL', KEYS[1], name)
        redis.call('HDEL', KEYS[2], name)
        redis.call('SREM', KEYS[3], name)
      elseif order == 'pause' then
        redis.call('SADD', KEYS[3], name)
      elseif redis.call('SREM', KEYS[3], name) == 1 then
        go_on(name)
      end
    end
  end
end
redis.call('INCR', KEYS[4])
return there
