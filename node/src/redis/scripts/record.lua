-- Stores a result and tells who waits for it, unless a SUCCESS is there: that stays. Answers whether it was stored.
local function store(key, value, ttl)
  local set
  if ttl == '0' then set = redis.call('SET', key, value, 'NX') else set = redis.call('SET', key, value, 'NX', 'EX', ttl) end
  if not set then
    local old = redis.call('GET', key)
    -- Python and Umbel write the status first; anything else is looked into.
    if string.find(old, '^{"status": ?"SUCCESS"') then return false end
    if string.sub(old, 1, 1) == '{' and not string.find(old, '^{"status": ?"') then
      local ok, meta = pcall(cjson.decode, old)
      if ok and type(meta) == 'table' and meta['status'] == 'SUCCESS' then return false end
    end
    if ttl == '0' then redis.call('SET', key, value) else redis.call('SET', key, value, 'EX', ttl) end
  end
  redis.call('PUBLISH', key, value)
  return true
end

