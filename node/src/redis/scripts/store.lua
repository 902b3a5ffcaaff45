-- ARGV: key, record, TTL in seconds by turns. Answers 1 or 0 (a SUCCESS was there) each.
local answers = {}
for at = 1, #ARGV, 3 do answers[#answers + 1] = store(ARGV[at], ARGV[at + 1], ARGV[at + 2]) and 1 or 0 end
return answers
