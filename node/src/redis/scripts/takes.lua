-- Whether messages can be pushed there: under a queue's name may be a key of another type.
local function takes(list)
  local kind = redis.call('TYPE', list).ok
  return kind == 'list' or kind == 'none'
end
