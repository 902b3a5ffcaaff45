-- What a chord needs and has, for scripts that look whether it is complete. `p` is the group's key.
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

-- The parts of a complete chord, with their scores by turns. Of many only how many they are: a script reads and answers slowly what one
-- command hands out as it is. The number is negative where a part's score is not its rank.
local function parts_of(p)
  local key = p .. '.j'
  local count = redis.call('ZCARD', key)
  if count <= 64 then return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
  -- As many marks as parts: no index is there twice.
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  local ranked = redis.call('SCARD', p .. '.d') == count and redis.call('ZCOUNT', key, 0, '+inf') == count and tonumber(last) == count - 1
  return ranked and count or -count
end
