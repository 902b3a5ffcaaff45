-- Takes up to N messages and records who holds them, in one step.
-- KEYS: unacked, unacked_index, takers, paused, then per level (lost, then each priority step) one list per queue.
-- ARGV: count, session, taker, first number, queues, then each queue's name, then each queue's tail of an entry.
-- Answers: the paused queues among these (by position), the lists that cannot be taken from, as they are keys of another type, then
-- position and envelope by turns; false when this taker has been replaced.
local want, session, first, queues = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('HGET', KEYS[3], session) ~= ARGV[3] then return false end
local paused, open_queues = {}, {}
local is_paused = {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[4])) do is_paused[name] = true end
for q = 1, queues do
  if is_paused[ARGV[5 + q]] then paused[#paused + 1] = q else open_queues[#open_queues + 1] = q end
end
local refused = {}
local answer, entries, index, taken = {paused, refused}, {}, {}, 0
-- What is taken has to find its place: Redis takes nothing back of a script that fails.
redis.call('HLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
local now = redis.call('TIME')[1]
local levels = (#KEYS - 4) / queues
-- Every string costs what it is long: what begins all names is put together once.
local stem = 'umbel:' .. session .. ':'
for level = 0, levels - 1 do
  local open = open_queues
  while want > 0 and #open > 0 do
    local share, still = math.max(1, math.floor(want / #open)), {}
    for _, q in ipairs(open) do
      local ask = math.min(share, want)
      if ask > 0 then
        local list = KEYS[4 + level * queues + q]
        local got = redis.pcall('RPOP', list, ask)
        if got and got.err then
          refused[#refused + 1] = list
        elseif got then
          local tail = ARGV[5 + queues + q]
          for i = 1, #got do
            local envelope = got[i]
            local field = stem .. first + taken
            taken = taken + 1
            entries[taken * 2 - 1], entries[taken * 2] = field, '[' .. envelope .. tail
            index[taken * 2 - 1], index[taken * 2] = now, field
            answer[taken * 2 + 1], answer[taken * 2 + 2] = q, envelope
          end
          want = want - #got
          if #got == ask then still[#still + 1] = q end
        end
      end
    end
    open = still
  end
  if want == 0 then break end
end
if taken > 0 then
  redis.call('HSET', KEYS[1], unpack(entries))
  redis.call('ZADD', KEYS[2], unpack(index))
end
return answer
