
-- Second look: fences and everything of the results' database.
local answers, released = {}, {}
local function answer(c, chord)
  if not chord then return end
  if type(answers[c]) ~= 'table' then answers[c] = {} end
  table.insert(answers[c], chord)
end
-- What comes behind parts of a chord sees them counted.
local function counted(p)
  if uncounted[p] then answer(count_chord(p)) end
end
-- What is left for the broker's database: positions of effects and the deliveries they pay for; what is paid; whether some of that had begun.
local later, later_field, pending, gone, begun_gone = {}, {}, 0, {}, false
for c = 1, commits do
  local a = starts[c]
  local kind, good = ARGV[a], true
  if kind == 'D' then
    local field = ARGV[a + 1]
    good = not released[field]
    if good and not scores[field] then
      good = has_begun[field]
      begun_gone = begun_gone or good
    end
  elseif kind == 'C' then
    use(results_db)
    counted(ARGV[a + 1])
    good = conclude(ARGV[a + 1], ARGV[a + 2], ARGV[a + 3] == '1')
  elseif kind == 'U' then
    use(broker_db)
    good = redis.call('SET', ARGV[a + 1], '1', 'NX', 'EX', ARGV[a + 2])
  end
  answers[c] = (good or kind == 'U') and 1 or 0
  if good then
    local field = kind == 'D' and ARGV[a + 1] or nil
    a = a + 1 + fence_width[kind]
    local effects = tonumber(ARGV[a])
    a = a + 1
    for _ = 1, effects do
      local code = ARGV[a]
      if code == 'R' then use(results_db) store(ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
      elseif code == 'M' then use(results_db) redis.call('SET', ARGV[a + 1], '1', 'EX', ARGV[a + 2])
      elseif code == 'A' then part(a + 1, c)
      elseif code == 'H' then
        use(results_db)
        counted(ARGV[a + 1])
        answer(c, open_chord(a + 1))
      elseif code == 'N' then
        use(results_db)
        counted(ARGV[a + 1])
        grow(ARGV[a + 1], ARGV[a + 2])
      else
        if code == 'K' then gone[#gone + 1] = field
        else
          pending = pending + 1
          later[pending], later_field[pending] = a, field or false
        end
        if code ~= 'P' and code ~= 'S' and code ~= 'B' then released[field] = true end
      end
      a = a + 1 + width[code]
    end
  end
end
for _, p in ipairs(counting) do
  if uncounted[p] then
    use(results_db)
    answer(count_chord(p))
  end
end
use(broker_db)

local function schedule(a, due)
  local queue, id = ARGV[a], ARGV[a + 1]
  redis.call('ZADD', prefix .. 'umbel:due:' .. queue, due, id)
  redis.call('HSET', prefix .. 'umbel:scheduled:' .. queue, id, ARGV[a + 3] .. '\n' .. ARGV[a + 4])
  redis.call('ZADD', KEYS[4], 'LT', due, queue)
end

-- Third look: everything of the broker's database but what has merely been paid, which goes in one command each.
local begun = {}
for i = 1, pending do
  local a, field = later[i], later_field[i]
  local code = ARGV[a]
  if code == 'P' then redis.call('LPUSH', ARGV[a + 1], ARGV[a + 2])
  elseif code == 'S' then schedule(a + 1, ARGV[a + 3])
  elseif code == 'B' then
    begun[#begun + 1] = field
  else
    gone[#gone + 1] = field
    if code == 'Q' then redis.call('RPUSH', ARGV[a + 1], ARGV[a + 2])
    elseif code == 'T' then schedule(a + 1, now + ARGV[a + 3])
    elseif code == 'X' then
      redis.call('HSET', KEYS[6], ARGV[a + 1], ARGV[a + 2])
      -- Letters of one millisecond keep their order.
      redis.call('ZADD', KEYS[5], time[1] * 1000 + (time[2] + i / 10000) / 1000, ARGV[a + 1])
      local limit = tonumber(ARGV[a + 3])
      if redis.call('ZCARD', KEYS[5]) > limit then
        local oldest = redis.call('ZPOPMIN', KEYS[5])
        redis.call('HDEL', KEYS[6], oldest[1])
      end
    end
  end
end
for from = 1, #begun, 4000 do
  local to = math.min(#begun, from + 3999)
  redis.call('SADD', KEYS[3], unpack(begun, from, to))
  redis.call('ZREM', KEYS[2], unpack(begun, from, to))
  begun_gone = true
end
for from = 1, #gone, 4000 do
  local to = math.min(#gone, from + 3999)
  redis.call('HDEL', KEYS[1], unpack(gone, from, to))
  redis.call('ZREM', KEYS[2], unpack(gone, from, to))
  if begun_gone then redis.call('SREM', KEYS[3], unpack(gone, from, to)) end
end
return answers
