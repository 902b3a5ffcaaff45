
-- Chords as Celery keeps them (wire contract, 4.2), for `commit.lua`. `p` is the group's key, of the results' database, which is in use.
local function count_parts(p) return redis.call('ZCARD', p .. '.j') end

local function claim(p, group, task, root, saved)
  if not redis.call('SET', p .. '.c', token, 'NX', 'PX', claim_ttl) then return nil end
  redis.call('ZADD', chords, now, group)
  if task ~= '' then redis.call('HSET', lasts, group, task .. '\n' .. root) end
  return {group, task, root, saved or false, parts_of(p), ''}
end

local function expire(p, meta_ttl)
  if chord_ttl <= 0 then return end
  for _, suffix in ipairs({'.j', '.t', '.s', '.d'}) do redis.call('EXPIRE', p .. suffix, chord_ttl) end
  if meta_ttl > 0 then redis.call('EXPIRE', p, meta_ttl) end
end

local function head(member) return string.match(member, '^%s*%[%s*1%s*,%s*"([^"]*)"') end

-- Parts of this batch that are not counted yet, by chord, each list in its order, and the order of the chords.
local uncounted, counting = {}, {}

local function part(a, c)
  local p = ARGV[a]
  local parts = uncounted[p]
  if not parts then
    parts = {}
    uncounted[p] = parts
    counting[#counting + 1] = p
  end
  parts[#parts + 1] = {a, c}
end

-- Which marks are there, for parts that are counted now.
local function marked(p, marks)
  local there = {}
  for from = 1, #marks, 4000 do
    local some = redis.call('SMISMEMBER', p .. '.d', unpack(marks, from, math.min(#marks, from + 3999)))
    for i = 1, #some do there[from + i - 1] = some[i] == 1 end
  end
  return there
end

-- Records the parts of a chord that have come so far and claims it if they were the last ones missing; answers the commit that
-- completed it, and the chord. All of a chord's together: most of what a part costs is asked once for them.
local function count_chord(p)
  local parts = uncounted[p]
  if not parts then return nil end
  uncounted[p] = nil
  if redis.call('GET', p .. '.c') == 'done' then return nil end
  local marks, body, meta_ttl = {}, '', 0
  for i, of in ipairs(parts) do
    local a = of[1]
    marks[i] = ARGV[a + 2] .. ':' .. ARGV[a + 5]
    if body == '' then body = ARGV[a + 6] end
    meta_ttl = math.max(meta_ttl, tonumber(ARGV[a + 7]))
  end
  local group = ARGV[parts[1][1] + 1]
  -- A member without a mark is of a 5.6 worker, and may be one of these.
  local there, foreign = marked(p, marks), redis.call('SCARD', p .. '.d') < redis.call('ZCARD', p .. '.j')
  local new_marks, members, seen, added = {}, {}, {}, {}
  for i, of in ipairs(parts) do
    local a, mark = of[1], marks[i]
    if not there[i] and not seen[mark] then
      seen[mark] = true
      new_marks[#new_marks + 1] = mark
      local known = false
      if foreign then
        for _, other in ipairs(redis.call('ZRANGEBYSCORE', p .. '.j', ARGV[a + 5], ARGV[a + 5])) do
          if head(other) == ARGV[a + 2] then known = true end
        end
      end
      if not known then
        members[#members + 1] = ARGV[a + 5]
        members[#members + 1] = ARGV[a + 4]
      end
    end
    added[i] = #members / 2
  end
  for from = 1, #new_marks, 4000 do redis.call('SADD', p .. '.d', unpack(new_marks, from, math.min(#new_marks, from + 3999))) end
  for from = 1, #members, 4000 do redis.call('ZADD', p .. '.j', unpack(members, from, math.min(#members, from + 3999))) end
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
  -- A 5.6 worker counts a part again that it runs again: one of each task and index is enough. Where there are as many marks as
  -- parts none is there twice, and a long header need not be looked through.
  if redis.call('SCARD', p .. '.d') < count then
    local twice, all = {}, redis.call('ZRANGE', p .. '.j', 0, -1, 'WITHSCORES')
    for i = 1, #all, 2 do
      local id = head(all[i])
      if id then
        local mark = id .. ':' .. all[i + 1]
        if twice[mark] then redis.call('ZREM', p .. '.j', all[i]) end
        twice[mark] = true
      end
    end
    if count_parts(p) < needed then return nil end
  end
  local last, before = 1, count - #members / 2
  while last < #parts and before + added[last] < needed do last = last + 1 end
  local a, c = parts[last][1], parts[last][2]
  return c, claim(p, group, ARGV[a + 2], ARGV[a + 3], saved)
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
  redis.call('UNLINK', p .. '.c', p .. '.d', p .. '.j', p .. '.t', p .. '.w')
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
  -- Without its size it was concluded by a Celery worker of 5.6, which asks nobody.
  local size = redis.call('GET', p .. '.s')
  if not size then return false end
  -- Without a holder the claim has run out and nobody has taken it since.
  if not holder and count_parts(p) < need(p, size) then return false end
  redis.call('DEL', p .. '.s')
  -- Thousands of parts are taken apart beside the server's other work.
  if not failed then redis.call('UNLINK', p .. '.j', p .. '.t', p .. '.d') end
  redis.call('SET', p .. '.c', 'done', 'EX', 300)
  redis.call('ZREM', chords, group)
  redis.call('HDEL', bodies, group)
  redis.call('HDEL', lasts, group)
  return true
end
