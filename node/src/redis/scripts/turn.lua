-- Gives turns: the arithmetic of scheduler/src/limits.rs, by this server's clock, in one step for all who ask.
-- KEYS: unacked, whose fields the holders are; empty where the messages are elsewhere. Then one key for each who asks: what the
-- names of its limit begin with.
-- ARGV: margin, slack, window from, turn stretch, ahead (ms), ahead (starts), lead, starts kept, soon, again, shortest look, longest look,
-- look for a slot, spacing (intervals), holder TTL (ms where nothing else is said), and for each who asks: starts a second (0: any number), places (0),
-- unique in ms (0), holder, task, 1 if it has waited, 1 if there is a slot for it.
-- Answers now, then for each: 0 (now), 1 (soon) or 2 (later) and the wait, 3 and the task that is there, or 4 and its time.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local margin, slack, window_from, stretch = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ahead_ms, ahead_starts, lead, kept = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local soon, again, look_min, look_max, slot = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local spacing, holder_ttl = tonumber(ARGV[14]), tonumber(ARGV[15])
local function text(number) return string.format('%.3f', number) end

-- The meters of those who ask: many who come together ask for one, which is read once and written once.
local meters = {}
local function meter_of(key)
  if not meters[key] then
    local known = redis.call('HMGET', key .. ':meter', 'next', 'spread', 'typical')
    meters[key] = {next = tonumber(known[1] or '0'), spread = tonumber(known[2] or '0'), typical = tonumber(known[3] or '0')}
  end
  return meters[key]
end

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

-- Books the next start, if its time is near: how long to wait for a turn instead (or nil), its time (nil: now), and whether it is near
-- and there is no slot.
local function book(key, meter, rate, waited, ready)
  local interval, most, booked = 1000 / rate, rate >= window_from and math.floor(rate), key .. ':booked'
  local turn = most and (1000 + margin) / most * stretch or interval
  local ahead = math.min(ahead_ms, ahead_starts * interval)
  if not waited and meter.spread > now + ahead then
    meter.spread = meter.spread + turn
    return math.max(meter.spread - now - ahead * lead, 1)
  end
  local at = math.max(meter.next, now)
  if most then
    local count = redis.call('LLEN', booked)
    if count > most + kept then redis.call('LTRIM', booked, -most - kept, -1) end
    if count > 0 then at = math.max(at, tonumber(redis.call('LINDEX', booked, -1)) + interval * spacing) end
    if count >= most then at = math.max(at, tonumber(redis.call('LINDEX', booked, -most)) + 1000 + margin) end
  end
  if at > now + ahead then
    if waited then return math.max(at - now - ahead * lead, again) end
    meter.spread = math.max(at, meter.spread + turn)
    return math.max(meter.spread - now - ahead * lead, 1)
  end
  if not ready then return slot, nil, true end
  -- Only where others wait has anything been missed.
  meter.next = math.max(meter.next, now - (meter.spread > meter.next and slack or 0)) + interval
  meter.spread = math.max(meter.spread, at)
  local start = string.format('%.0f', math.floor(at))
  if most then
    redis.call('RPUSH', booked, start)
    redis.call('PEXPIRE', booked, 5000)
  end
  if at > now then return nil, start end
end

local function ask(key, rate, places, unique, holder, task, waited, ready)
  if unique > 0 then
    local only = redis.call('GET', key .. ':only')
    if only and only ~= task then return 3, only end
  end
  local meter = meter_of(key)
  local wait, at, again_here
  if places > 0 and not redis.call('ZSCORE', key .. ':holders', holder) and places_taken(key, meter) >= places then
    meter.spread = math.max(meter.spread, now) + math.min(math.max(meter.typical / places, look_min), look_max)
    wait = meter.spread - now
    again_here = wait <= soon
  elseif rate > 0 then
    wait, at, again_here = book(key, meter, rate, waited, ready)
  end
  if wait then return again_here and 1 or 2, text(wait) end
  if not ready then return 1, text(slot) end
  if places > 0 then
    redis.call('ZADD', key .. ':holders', 'NX', text(now), holder)
    redis.call('PEXPIRE', key .. ':holders', 2592000000)
  end
  if unique > 0 then redis.call('SET', key .. ':only', task, 'PX', unique) end
  if at then return 4, at end
  return 0, '0'
end

local answers = {text(now)}
for at = 2, #KEYS do
  local a = 16 + (at - 2) * 7
  local rate, places, unique = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local code, what = ask(KEYS[at], rate, places, unique, ARGV[a + 3], ARGV[a + 4], ARGV[a + 5] == '1', ARGV[a + 6] == '1')
  answers[#answers + 1] = code
  answers[#answers + 1] = what
end
for key, meter in pairs(meters) do
  redis.call('HSET', key .. ':meter', 'next', text(meter.next), 'spread', text(meter.spread), 'typical', text(meter.typical))
  redis.call('PEXPIRE', key .. ':meter', math.ceil(math.max(meter.next, meter.spread) - now) + 3600000)
end
return answers
