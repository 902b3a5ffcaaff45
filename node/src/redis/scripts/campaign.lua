-- Gives beat's lease to whoever asks first, and renews it.
-- KEYS: leader, token, revision. ARGV: candidate, lease in ms.
-- Answers: 1 (leads) or 0, the token, how long the lease lasts in ms, who leads, now, the revision.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local holder, leads = redis.call('GET', KEYS[1]), 0
if not holder then
  redis.call('INCR', KEYS[2])
  holder = ARGV[1]
end
if holder == ARGV[1] then
  redis.call('SET', KEYS[1], holder, 'PX', ARGV[2])
  leads = 1
end
return {
  leads, tonumber(redis.call('GET', KEYS[2]) or '0'), redis.call('PTTL', KEYS[1]), holder, now,
  tonumber(redis.call('GET', KEYS[3]) or '0')
}
