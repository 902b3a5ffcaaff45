-- Looks for chords that are complete and that nobody has concluded for a while, and claims them for this ledger. What no node has
-- claimed before is marked by the first look that finds it complete (`.w`), and claimed by the next.
-- KEYS: chords, bodies, lasts. ARGV: prefix of group keys, grace in ms, limit, claim TTL in ms, claim token.
-- Answers per chord: group, last task, its root, saved tree or false, its parts (`parts_of`), body.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer, wanted = {}, tonumber(ARGV[3])

local function forget(group)
  redis.call('ZREM', KEYS[1], group)
  redis.call('HDEL', KEYS[2], group)
  redis.call('HDEL', KEYS[3], group)
end

for _, group in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]), 'LIMIT', 0, wanted + 1000)) do
  if #answer >= wanted then break end
  local p = ARGV[1] .. group
  local size, holder = redis.call('GET', p .. '.s'), redis.call('GET', p .. '.c')
  if holder == 'done' or (not size and redis.call('EXISTS', p .. '.j') == 0) then
    -- Concluded by somebody else, or expired. A Celery 5.6 worker that concludes leaves its marks of 5.7 behind.
    redis.call('DEL', p .. '.d')
    forget(group)
  else
    local body, complete = redis.call('HGET', KEYS[2], group), false
    if size and not holder and body then
      local needed, saved = need(p, size)
      if redis.call('ZCARD', p .. '.j') >= needed then
        local last = redis.call('HGET', KEYS[3], group)
        -- A node that claims a chord writes its last part down. A Celery worker of 5.6 tells nobody that it is about to conclude, and
        -- has until the next look to do so.
        if last or redis.call('EXISTS', p .. '.w') == 1 then
          redis.call('SET', p .. '.c', ARGV[5], 'PX', ARGV[4])
          last = last or '\n'
          local cut = string.find(last, '\n', 1, true)
          answer[#answer + 1] = {group, string.sub(last, 1, cut - 1), string.sub(last, cut + 1), saved or false,
            parts_of(p), body}
        else
          redis.call('SET', p .. '.w', '1', 'PX', 10 * tonumber(ARGV[2]))
        end
      end
    end
    redis.call('ZADD', KEYS[1], now, group)
  end
end
return answer
