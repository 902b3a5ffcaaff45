-- Carries out a batch of commits, each whole or not at all, with an answer each.
--
-- KEYS: unacked, unacked_index, begun, schedules, dead, letters. These and all lists are of the broker's database; results and
-- chords are of the results' database, which may be another one of this server.
-- ARGV: broker database, results database, prefix of broker keys, chords key, bodies key, lasts key, chord TTL in seconds, claim TTL
-- in ms, claim token, number of commits, then for each: fence, its arguments, number of effects, and for each effect: code and arguments.
--
-- Fences: O (none) | U key ttl (once: a commit that was carried out before is answered as done) | D field (still held) | C key (this chord is claimed, or may be, and not concluded), group, whether a member failed.
-- Effects of the results' database: R key value ttl | M key ttl (a mark) | N group-key by | H group-key group size body | A group-key group task root
-- member score body (empty: known already) meta-ttl.
-- Effects of the broker's database: P list envelope | S queue id due list envelope | K (ack) | Q list envelope | T queue id wait list
-- envelope | X id record limit | B (begin).
--
-- Answers per commit: 0 (refused) or 1, or a list of chords that have become complete: group, last task, its
-- root, saved tree or false, members and scores, body (empty).
local broker_db, results_db, prefix = ARGV[1], ARGV[2], ARGV[3]
local chords, bodies, lasts, chord_ttl, claim_ttl, token = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9]
local commits = tonumber(ARGV[10])
local fence_width = {O = 0, U = 2, D = 1, C = 3}
local width = {R = 3, M = 2, N = 2, H = 4, A = 8, P = 2, S = 5, K = 0, Q = 2, T = 5, X = 3, B = 0}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local here = broker_db
local function use(db) if db ~= here then redis.call('SELECT', db) here = db end end

-- First look: where commits begin, and which deliveries are still held.
local starts, fields, field_of = {}, {}, {}
local at = 11
for c = 1, commits do
  starts[c] = at
  local kind = ARGV[at]
  if kind == 'D' then fields[#fields + 1] = ARGV[at + 1] field_of[c] = #fields end
  at = at + 1 + fence_width[kind]
  local effects = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, effects do at = at + 1 + width[ARGV[at]] end
end
local scores = {}
for from = 1, #fields, 4000 do
  local part = redis.call('ZMSCORE', KEYS[2], unpack(fields, from, math.min(#fields, from + 3999)))
  for i = 1, #part do scores[from + i - 1] = part[i] end
end

local function leaves(tree)
  if type(tree) ~= 'table' then return 0 end
  local children = tree[2]
  if type(children) ~= 'table' or #children == 0 then return 1 end
  local count = 0
  for _, child in ipairs(children) do count = count + leaves(child) end
  return count
end

-- How many parts a chord needs: what the sender wrote, or the leaves of the saved tree where that is more (5.6 senders of
-- nested headers let the number be lowered), and what was added since.
local function need(p, size)
  local extra = tonumber(redis.call('GET', p .. '.t') or '0') or 0
  local needed = tonumber(size) or 0
  local saved = redis.call('GET', p)
  if saved then
    local ok, meta = pcall(cjson.decode, saved)
    if ok and type(meta) == 'table' then needed = math.max(needed, leaves(meta['result'])) end
  end
  return needed + extra, saved
end

local function count_parts(p) return redis.call('ZCARD', p .. '.j') end

local function claim(p, group, task, root, saved)
  if not redis.call('SET', p .. '.c', token, 'NX', 'PX', claim_ttl) then return nil end
  redis.call('ZADD', chords, now, group)
  if task ~= '' then redis.call('HSET', lasts, group, task .. '\n' .. root) end
  return {group, task, root, saved or false, redis.call('ZRANGE', p .. '.j', 0, -1, 'WITHSCORES'), ''}
end

local function expire(p, meta_ttl)
  if chord_ttl <= 0 then return end
  for _, suffix in ipairs({'.j', '.t', '.s', '.d'}) do redis.call('EXPIRE', p .. suffix, chord_ttl) end
  if meta_ttl > 0 then redis.call('EXPIRE', p, meta_ttl) end
end

local function head(member) return string.match(member, '^%s*%[%s*1%s*,%s*"([^"]*)"') end

-- Records a part and claims the chord if it was the last one missing.
local function part(a)
  local p, group, task, root, member, score, body, meta_ttl =
    ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5], ARGV[a + 6], tonumber(ARGV[a + 7])
  if redis.call('GET', p .. '.c') == 'done' then return nil end
  if redis.call('SADD', p .. '.d', task .. ':' .. score) == 1 then
    local known = false
    for _, other in ipairs(redis.call('ZRANGEBYSCORE', p .. '.j', score, score)) do
      if head(other) == task then known = true end
    end
    if not known then redis.call('ZADD', p .. '.j', score, member) end
  end
  if body ~= '' then
    redis.call('ZADD', chords, 'NX', now, group)
    redis.call('HSETNX', bodies, group, body)
  end
  expire(p, meta_ttl)
  local size = redis.call('GET', p .. '.s')
  if not size then return nil end
  local count = count_parts(p)
  if count < tonumber(size) then return nil end
  local needed, saved = need(p, size)
  if count < needed then return nil end
  -- A 5.6 worker counts a part again that it runs again: one of each task and index is enough. It writes no marks, so that where
  -- there are as many marks as parts none is there twice, and a long header need not be looked through.
  if redis.call('SCARD', p .. '.d') < count then
    local seen, members = {}, redis.call('ZRANGE', p .. '.j', 0, -1, 'WITHSCORES')
    for i = 1, #members, 2 do
      local id = head(members[i])
      if id then
        local mark = id .. ':' .. members[i + 1]
        if seen[mark] then redis.call('ZREM', p .. '.j', members[i]) end
        seen[mark] = true
      end
    end
    if count_parts(p) < needed then return nil end
  end
  return claim(p, group, task, root, saved)
end

-- Expects more parts; a chord that was complete is not claimed any more if now it is not.
local function grow(p, by)
  redis.call('INCRBY', p .. '.t', by)
  expire(p, 0)
  local size = redis.call('GET', p .. '.s')
  if size and redis.call('GET', p .. '.c') ~= 'done' and count_parts(p) < need(p, size) then redis.call('DEL', p .. '.c') end
end

local function open_chord(a)
  local p, group, size, body = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  -- A chord that is there and known was opened by this very commit, sent before.
  if redis.call('EXISTS', p .. '.s') == 1 and redis.call('HEXISTS', bodies, group) == 1 then return nil end
  redis.call('DEL', p .. '.c', p .. '.d', p .. '.j', p .. '.t')
  if chord_ttl > 0 then redis.call('SET', p .. '.s', size, 'EX', chord_ttl) else redis.call('SET', p .. '.s', size) end
  redis.call('ZADD', chords, now, group)
  redis.call('HSET', bodies, group, body)
  if tonumber(size) == 0 then return claim(p, group, '', '', nil) end
  return nil
end

-- Whether the chord may be concluded by this ledger; if so it is, and nothing of it is left but the mark. Of one that failed the parts
-- are left too, for those who look at them; without its size it is never complete again.
local function conclude(p, group, failed)
  local holder = redis.call('GET', p .. '.c')
  if holder == 'done' or (holder and holder ~= token) then return false end
  if not holder then
    -- The claim has run out and nobody has taken it since.
    local size = redis.call('GET', p .. '.s')
    if not size or count_parts(p) < need(p, size) then return false end
  end
  redis.call('DEL', p .. '.s')
  if not failed then redis.call('DEL', p .. '.j', p .. '.t', p .. '.d') end
  redis.call('SET', p .. '.c', 'done', 'EX', 300)
  redis.call('ZREM', chords, group)
  redis.call('HDEL', bodies, group)
  redis.call('HDEL', lasts, group)
  return true
end

-- Second look: fences and everything of the results' database.
local answers, released = {}, {}
-- What is left for the broker's database: positions of effects and the deliveries they pay for; what is paid; whether some of that had begun.
local later, later_field, pending, gone, begun_gone = {}, {}, 0, {}, false
for c = 1, commits do
  local a = starts[c]
  local kind, good = ARGV[a], true
  if kind == 'D' then
    local field = ARGV[a + 1]
    good = not released[field]
    if good and not scores[field_of[c]] then
      use(broker_db)
      good = redis.call('SISMEMBER', KEYS[3], field) == 1
      begun_gone = begun_gone or good
    end
  elseif kind == 'C' then
    use(results_db)
    good = conclude(ARGV[a + 1], ARGV[a + 2], ARGV[a + 3] == '1')
  elseif kind == 'U' then
    use(broker_db)
    good = redis.call('SET', ARGV[a + 1], '1', 'NX', 'EX', ARGV[a + 2])
  end
  answers[c] = (good or kind == 'U') and 1 or 0
  if good then
    local field = kind == 'D' and ARGV[a + 1] or nil
    a = a + 1 + fence_width[kind]
    local effects, ready = tonumber(ARGV[a]), nil
    a = a + 1
    for _ = 1, effects do
      local code, complete = ARGV[a], nil
      if code == 'R' then use(results_db) store(ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
      elseif code == 'M' then use(results_db) redis.call('SET', ARGV[a + 1], '1', 'EX', ARGV[a + 2])
      elseif code == 'A' then use(results_db) complete = part(a + 1)
      elseif code == 'H' then use(results_db) complete = open_chord(a + 1)
      elseif code == 'N' then use(results_db) grow(ARGV[a + 1], ARGV[a + 2])
      else
        if code == 'K' then gone[#gone + 1] = field
        else
          pending = pending + 1
          later[pending], later_field[pending] = a, field or false
        end
        if code ~= 'P' and code ~= 'S' and code ~= 'B' then released[field] = true end
      end
      if complete then ready = ready or {} ready[#ready + 1] = complete end
      a = a + 1 + width[code]
    end
    if ready then answers[c] = ready end
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
local unindexed = {}
for i = 1, pending do
  local a, field = later[i], later_field[i]
  local code = ARGV[a]
  if code == 'P' then redis.call('LPUSH', ARGV[a + 1], ARGV[a + 2])
  elseif code == 'S' then schedule(a + 1, ARGV[a + 3])
  elseif code == 'B' then
    redis.call('SADD', KEYS[3], field)
    unindexed[#unindexed + 1] = field
    begun_gone = true
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
for from = 1, #gone, 4000 do
  local to = math.min(#gone, from + 3999)
  redis.call('HDEL', KEYS[1], unpack(gone, from, to))
  redis.call('ZREM', KEYS[2], unpack(gone, from, to))
  if begun_gone then redis.call('SREM', KEYS[3], unpack(gone, from, to)) end
end
if #unindexed > 0 then redis.call('ZREM', KEYS[2], unpack(unindexed)) end
return answers
