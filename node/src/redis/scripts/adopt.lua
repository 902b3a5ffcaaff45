-- Replaces a session's taker after a take whose answer was lost, and says what the session holds: what the taker before it took
-- is among it, and should it come late it takes nothing.
-- KEYS: takers, unacked, leases. ARGV: session, taker.
-- Answers the fields; false when the session is not there any more: what it took then would be nobody's.
local ends = redis.call('ZSCORE', KEYS[3], ARGV[1])
if not ends or tonumber(ends) <= 0 then return false end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local prefix, held = 'umbel:' .. ARGV[1] .. ':', {}
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  if string.sub(field, 1, #prefix) == prefix then held[#held + 1] = field end
end
return held
