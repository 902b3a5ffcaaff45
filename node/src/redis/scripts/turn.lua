-- Gives turns: the arithmetic of scheduler/src/limits.rs, by this server's clock, in one step for all who ask.
-- KEYS: unacked, whose fields the holders are; empty where the messages are elsewhere. Then one key for each who asks: what the
-- names of its limit begin with.
-- ARGV: margin, slack, window from, turn stretch, soon, again, shortest look, longest look, holder TTL (all ms), and for each
-- who asks: starts a second (0: any number), places (0), unique in ms (0), holder, task, 1 if it has waited.
-- Answers now, then for each: 0 (now), 1 (soon) or 2 (later) and the wait, or 3 and the task that is there.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local margin, slack, window_from, stretch = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local soon, again, look_min, look_max, holder_ttl = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local function part_of(at) return math.floor(at / 10) end
local function text(number) return string.format('%.3f', number) end

-- How many hold a place, without those that do not run any more.
local function places_taken(key, meter)
  local taken, holders = 0, redis.call('ZRANGE', key .. ':holders', 0, -1, 'WITHSCORES')
  for i = 1, #holders, 2 do
    local since, gone = tonumber(holders[i + 1])
    if KEYS[1] ~= '' then gone = redis.call('HEXISTS', KEYS[1], holders[i]) == 0 else gone = since + holder_ttl < now end
    if gone then
      redis.call('ZREM', key .. ':holders', holders[i])
      local ran = math.max(now - since, 0)
      meter.typical = meter.typical == 0 and ran or meter.typical * 0.8 + ran * 0.2
    else
      taken = taken + 1
    end
  end
  return taken
end

-- How long until the window has room.
local function window_full(key, most)
  local first, parts, counted = part_of(now - 1000 - margin), {}, 0
  local all = redis.call('HGETALL', key .. ':window')
  for i = 1, #all, 2 do
    local part, count = tonumber(all[i]), tonumber(all[i + 1])
    if part < first then redis.call('HDEL', key .. ':window', all[i])
    else parts[#parts + 1] = {part, count} counted = counted + count end
  end
  if counted < most then return 0 end
  table.sort(parts, function(a, b) return a[1] < b[1] end)
  for _, part in ipairs(parts) do
    counted = counted - part[2]
    if counted < most then return (part[1] + 1) * 10 + 1000 + margin - now end
  end
  return 1000
end

local function start_later(key, meter, rate, waited)
  local interval, windowed = 1000 / rate, rate >= window_from
  local turn = windowed and interval * stretch or interval
  if not waited and meter.spread > now + turn then
    meter.spread = meter.spread + turn
    return meter.spread - now
  end
  local wait = meter.next - now
  if windowed then wait = math.max(wait, window_full(key, math.floor(rate))) end
  if wait <= 0 then
    meter.next = math.max(meter.next, now - slack) + interval
    if windowed then
      redis.call('HINCRBY', key .. ':window', part_of(now), 1)
      redis.call('PEXPIRE', key .. ':window', 5000)
    end
    return nil
  end
  if not waited then
    meter.spread = math.max(meter.spread, meter.next, now) + turn
    return meter.spread - now
  end
  if wait <= soon then return math.max(wait, 1) end
  return math.max(wait, again)
end

local function ask(key, rate, places, unique, holder, task, waited)
  if unique > 0 then
    local only = redis.call('GET', key .. ':only')
    if only and only ~= task then return 3, only end
  end
  local known = redis.call('HMGET', key .. ':meter', 'next', 'spread', 'typical')
  local meter = {next = tonumber(known[1] or '0'), spread = tonumber(known[2] or '0'), typical = tonumber(known[3] or '0')}
  local wait
  if places > 0 and not redis.call('ZSCORE', key .. ':holders', holder) and places_taken(key, meter) >= places then
    meter.spread = math.max(meter.spread, now) + math.min(math.max(meter.typical / places, look_min), look_max)
    wait = meter.spread - now
  elseif rate > 0 then
    wait = start_later(key, meter, rate, waited)
  end
  redis.call('HSET', key .. ':meter', 'next', text(meter.next), 'spread', text(meter.spread), 'typical', text(meter.typical))
  redis.call('PEXPIRE', key .. ':meter', math.ceil(math.max(meter.next, meter.spread) - now) + 3600000)
  if wait then
    if wait <= soon then return 1, text(wait) end
    return 2, text(wait)
  end
  if places > 0 then
    redis.call('ZADD', key .. ':holders', 'NX', text(now), holder)
    redis.call('PEXPIRE', key .. ':holders', 2592000000)
  end
  if unique > 0 then redis.call('SET', key .. ':only', task, 'PX', unique) end
  return 0, '0'
end

local answers = {text(now)}
for at = 2, #KEYS do
  local a = 10 + (at - 2) * 6
  local code, what = ask(KEYS[at], tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), ARGV[a + 3], ARGV[a + 4], ARGV[a + 5] == '1')
  answers[#answers + 1] = code
  answers[#answers + 1] = what
end
return answers
