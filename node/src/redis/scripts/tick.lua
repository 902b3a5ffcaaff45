-- Carries out ticks of beat: each moves an entry's mark and puts its task's message into the queue, or neither.
-- KEYS: leader, token, entries, marks, paused, schedules. ARGV: prefix of keys, candidate, token, number of ticks, then for each:
-- name, the due time its mark stands at, its mark afterwards, and what is sent: '-' | 'P' list envelope | 'S' queue id due list envelope.
-- Answers per tick: 1 (done), 2 (the entry is paused or gone), 0 (another leads), or the mark where it stands.
local prefix, count = ARGV[1], tonumber(ARGV[4])
local leads = redis.call('GET', KEYS[1]) == ARGV[2] and redis.call('GET', KEYS[2]) == ARGV[3]
local width = {['-'] = 0, P = 2, S = 5}
local answers, at = {}, 5
for tick = 1, count do
  local name, from, mark, kind = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local a = at + 4
  at = a + width[kind]
  if not leads then
    answers[tick] = 0
  elseif redis.call('HEXISTS', KEYS[3], name) == 0 or redis.call('SISMEMBER', KEYS[5], name) == 1 then
    answers[tick] = 2
  else
    local stands = redis.call('HGET', KEYS[4], name) or ''
    if string.match(stands, '^%S+') ~= from then
      answers[tick] = stands
    else
      redis.call('HSET', KEYS[4], name, mark)
      if kind == 'P' then
        redis.call('LPUSH', ARGV[a], ARGV[a + 1])
      elseif kind == 'S' then
        local queue, id, due = ARGV[a], ARGV[a + 1], ARGV[a + 2]
        redis.call('ZADD', prefix .. 'umbel:due:' .. queue, due, id)
        redis.call('HSET', prefix .. 'umbel:scheduled:' .. queue, id, ARGV[a + 3] .. '\n' .. ARGV[a + 4])
        redis.call('ZADD', KEYS[6], 'LT', due, queue)
      end
      answers[tick] = 1
    end
  end
end
return answers
