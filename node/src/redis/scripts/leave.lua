-- Puts messages that wait for their time behind what waits in their queues, while no node is left that would do so in time: Celery's
-- workers know nothing of schedules, and hold those that say their time themselves. What does not say it stays.
-- KEYS: leases, pulse, when messages of a queue are due, and what they are. ARGV: how many to look at, how many to leave out.
-- Answers how many were looked at and how many of them stay; false when there is a node.
local now = pulse(KEYS[1], KEYS[2])
if redis.call('ZCOUNT', KEYS[1], '(' .. string.format('%.0f', now), '+inf') > 0 then return false end
local skip = tonumber(ARGV[2])
local ids, stay = redis.call('ZRANGE', KEYS[3], skip, skip + tonumber(ARGV[1]) - 1), 0
if #ids > 0 then
  local rows, gone = redis.call('HMGET', KEYS[4], unpack(ids)), {}
  for at = 1, #ids do
    local row = rows[at]
    local line = row and string.find(row, '\n', 1, true)
    local list = row and string.sub(row, 1, line - 1)
    if row and string.find(row, '"eta": ?"', line) and takes(list) then
      -- What says that it has waited (`scheduler/src/settlement/later.rs`) is true no more: whoever takes it has it wait again.
      redis.call('LPUSH', list, (string.gsub(string.sub(row, line + 1), '"umbel_scheduled": ?%d+', '"umbel_scheduled":0', 1)))
      gone[#gone + 1] = ids[at]
    else
      stay = stay + 1
    end
  end
  if #gone > 0 then
    redis.call('ZREM', KEYS[3], unpack(gone))
    redis.call('HDEL', KEYS[4], unpack(gone))
  end
end
return {#ids, stay}
