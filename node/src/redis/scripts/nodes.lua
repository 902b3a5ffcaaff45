-- Lists the sessions that hold a lease.
-- KEYS: leases, sessions, pulse.
-- Answers session, how long its lease runs (ms) and what it says of itself by turns.
local now = pulse(KEYS[1], KEYS[3])
local answer = {}
local alive = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES')
for at = 1, #alive, 2 do
  answer[#answer + 1] = alive[at]
  answer[#answer + 1] = tonumber(alive[at + 1]) - now
  answer[#answer + 1] = redis.call('HGET', KEYS[2], alive[at]) or ''
end
return answer
