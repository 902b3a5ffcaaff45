-- Those who had a turn run no more, or have not begun to.
-- KEYS: what the names of a limit begin with, one for each. ARGV by turns: holder; the task, if it has ended for good; when a start
-- was booked that has not taken place, and the interval of its rate (both ms, or both empty).
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
for at = 1, #KEYS do
  local key, holder, task, unused, interval = KEYS[at], ARGV[at * 4 - 3], ARGV[at * 4 - 2], ARGV[at * 4 - 1], ARGV[at * 4]
  local since = tonumber(redis.call('ZSCORE', key .. ':holders', holder) or '-1')
  if since >= 0 then
    redis.call('ZREM', key .. ':holders', holder)
    local ran, typical = math.max(now - since, 0), tonumber(redis.call('HGET', key .. ':meter', 'typical') or '0')
    typical = typical == 0 and ran or typical * 0.8 + ran * 0.2
    redis.call('HSET', key .. ':meter', 'typical', string.format('%.3f', typical))
    redis.call('PEXPIRE', key .. ':meter', 3600000)
  end
  if unused ~= '' then
    local next = redis.call('HGET', key .. ':meter', 'next')
    if next then redis.call('HSET', key .. ':meter', 'next', string.format('%.3f', tonumber(next) - tonumber(interval))) end
    redis.call('LREM', key .. ':booked', -1, unused)
  end
  if task ~= '' and redis.call('GET', key .. ':only') == task then redis.call('DEL', key .. ':only') end
end
return #KEYS
