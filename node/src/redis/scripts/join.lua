-- Begins a session, or replaces its taker.
-- KEYS: leases, takers, sessions, pulse. ARGV: session, lease in ms, taker, what it is.
-- Answers now.
local now = pulse(KEYS[1], KEYS[4])
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
return now
