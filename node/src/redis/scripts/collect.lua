-- Lists what dead sessions hold, the newest first. From now on they are given up: they cannot renew.
-- KEYS: leases, unacked, begun, takers, sessions, pulse. ARGV: limit, session to give up whatever its lease says (or empty),
-- how many to leave out at the beginning: those that cannot go back.
-- Answers the sessions given up that hold nothing any more (they are forgotten), then field, entry and begun by turns.
local now = pulse(KEYS[1], KEYS[6])
local limit, dead, gone = tonumber(ARGV[1]), {}, {}
local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
if ARGV[2] ~= '' then ended = {ARGV[2]} end
for _, session in ipairs(ended) do
  redis.call('ZADD', KEYS[1], 0, session)
  redis.call('HDEL', KEYS[4], session)
  dead[session] = 0
end
local found = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  local session, number = string.match(field, '^umbel:([^:]*):(%d+)$')
  if session and dead[session] then
    dead[session] = dead[session] + 1
    found[#found + 1] = {field, session, tonumber(number)}
  end
end
for session, count in pairs(dead) do
  if count == 0 then
    redis.call('ZREM', KEYS[1], session)
    redis.call('HDEL', KEYS[5], session)
    gone[#gone + 1] = session
  end
end
table.sort(found, function(a, b) if a[2] == b[2] then return a[3] > b[3] end return a[2] < b[2] end)
local answer = {gone}
local skip = tonumber(ARGV[3])
for at = skip + 1, math.min(skip + limit, #found) do
  local field = found[at][1]
  answer[#answer + 1] = field
  answer[#answer + 1] = redis.call('HGET', KEYS[2], field) or ''
  answer[#answer + 1] = redis.call('SISMEMBER', KEYS[3], field)
end
return answer
