-- Begins a session, or replaces its taker.
-- KEYS: leases, takers, sessions. ARGV: session, lease in ms, taker, what it is.
-- Answers now.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
return now
