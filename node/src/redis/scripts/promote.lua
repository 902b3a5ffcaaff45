-- Moves what is due to the front of its queue. What cannot be moved, as its list is a key of another type, is tried again later, and
-- keeps nothing else from its queue.
-- KEYS: schedules. ARGV: prefix of keys, limit, how much later in ms.
-- Answers how many were looked at, now, when the next is due (-1: never), and a list that cannot be written to (or empty).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left, moved, refused = tonumber(ARGV[2]), 0, ''
for _, queue in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  local due, hash = ARGV[1] .. 'umbel:due:' .. queue, ARGV[1] .. 'umbel:scheduled:' .. queue
  local ids = left > 0 and redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, left) or {}
  if #ids > 0 then
    local rows = redis.call('HMGET', hash, unpack(ids))
    local done = {}
    -- The one that is due first is pushed last: it leaves first.
    for at = #ids, 1, -1 do
      local row = rows[at]
      local line = row and string.find(row, '\n', 1, true)
      local list = row and string.sub(row, 1, line - 1)
      if row and not takes(list) then
        redis.call('ZADD', due, now + tonumber(ARGV[3]), ids[at])
        refused = list
      else
        if row then redis.call('RPUSH', list, string.sub(row, line + 1)) end
        done[#done + 1] = ids[at]
      end
    end
    if #done > 0 then
      redis.call('ZREM', due, unpack(done))
      redis.call('HDEL', hash, unpack(done))
    end
    left, moved = left - #ids, moved + #ids
  end
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  if first[2] then redis.call('ZADD', KEYS[1], first[2], queue) else redis.call('ZREM', KEYS[1], queue) end
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {moved, now, first[2] and tonumber(first[2]) or -1, refused}
