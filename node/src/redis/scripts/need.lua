-- How many parts a chord needs, for scripts that look whether it is complete. `p` is the group's key.
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
