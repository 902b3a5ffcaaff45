-- Lets leases stand still while nobody was heard. Sessions renew every second; when none has for longer, the server was frozen,
-- cut off or restarted, and that is no sign of anybody's death: everybody alive then gets the time to renew.
-- Answers now, in ms and in whole seconds.
local function pulse(leases, pulses)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local last = tonumber(redis.call('GET', pulses) or now)
  if now - last > 2000 then
    local sessions = redis.call('ZRANGEBYSCORE', leases, '(0', '+inf')
    for _, session in ipairs(sessions) do redis.call('ZINCRBY', leases, now - last, session) end
  end
  if now >= last then redis.call('SET', pulses, string.format('%.0f', now)) end
  return now, time[1]
end

