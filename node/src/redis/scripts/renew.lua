-- Renews a session's lease and refreshes what it holds, so that no Celery worker restores it.
-- KEYS: leases, unacked_index, clock, schedules, pulse. ARGV: session, lease in ms, then what is held.
-- Answers: 1 or 0 (the session has been given up by others), now, the end of the lease that ends next (other sessions'), 1 when
-- this session looks after the schedule, when the schedule is due next.
local now, seconds = pulse(KEYS[1], KEYS[5])
local session, lease = ARGV[1], tonumber(ARGV[2])
local ends = redis.call('ZSCORE', KEYS[1], session)
if not ends or tonumber(ends) <= 0 then return {0, now} end
redis.call('ZADD', KEYS[1], now + lease, session)
for from = 3, #ARGV, 2000 do
  local refreshed = {}
  for at = from, math.min(#ARGV, from + 1999) do
    refreshed[#refreshed + 1] = seconds
    refreshed[#refreshed + 1] = ARGV[at]
  end
  redis.call('ZADD', KEYS[2], 'XX', unpack(refreshed))
end
local others, next_end = redis.call('ZRANGE', KEYS[1], 0, 1, 'WITHSCORES'), -1
for at = 1, #others, 2 do
  if others[at] ~= session then next_end = tonumber(others[at + 1]) break end
end
local holder = redis.call('GET', KEYS[3])
if not holder or holder == session then redis.call('SET', KEYS[3], session, 'PX', lease) holder = session end
local due = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
return {1, now, next_end, holder == session and 1 or 0, due[2] and tonumber(due[2]) or -1}
