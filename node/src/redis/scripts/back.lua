-- Puts messages back to the front of their queues, each only if it is still held. One whose list is a key of another type stays held.
-- KEYS: unacked, unacked_index, begun. ARGV: field, list, envelope by turns.
-- Answers how many went back.
local count = 0
for at = 1, #ARGV, 3 do
  if takes(ARGV[at + 1]) and redis.call('HDEL', KEYS[1], ARGV[at]) == 1 then
    redis.call('ZREM', KEYS[2], ARGV[at])
    redis.call('SREM', KEYS[3], ARGV[at])
    redis.call('RPUSH', ARGV[at + 1], ARGV[at + 2])
    count = count + 1
  end
end
return count
