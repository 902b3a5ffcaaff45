-- Of which messages nothing is left to run.
--
-- ARGV: seconds for which it is remembered which copy was taken first; then for each message: 1 if it may have been taken before,
-- key of the mark of its ending, key of its first copy (empty: it has no stamp), name of the ending that sent it, number of the copy.
-- Answers 1 or 0 each. The first copy that asks is the first that is taken.
local answers = {}
for at = 2, #ARGV, 5 do
  local key, ending = ARGV[at + 2], ARGV[at + 3] .. '/'
  -- Whoever asks settles the message now; should he die, it comes again soon, and is asked for again.
  local over = ARGV[at] == '1' and redis.call('EXPIRE', ARGV[at + 1], 600) == 1
  if not over and key ~= '' then
    local stamp = ending .. ARGV[at + 4]
    local first = redis.call('GET', key)
    if not first or string.sub(first, 1, #ending) ~= ending then redis.call('SET', key, stamp, 'EX', ARGV[1])
    else over = first ~= stamp end
  end
  answers[#answers + 1] = over and 1 or 0
end
return answers
