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
-- root, saved tree or false, its parts (`parts_of`), body (empty).
local broker_db, results_db, prefix = ARGV[1], ARGV[2], ARGV[3]
local chords, bodies, lasts, chord_ttl, claim_ttl, token = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9]
local commits = tonumber(ARGV[10])
local fence_width = {O = 0, U = 2, D = 1, C = 3}
local width = {R = 3, M = 2, N = 2, H = 4, A = 8, P = 2, S = 5, K = 0, Q = 2, T = 5, X = 3, B = 0}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local here = broker_db
local function use(db) if db ~= here then redis.call('SELECT', db) here = db end end

-- First look: where commits begin, which deliveries are still held, and whether lists and chords can be written to: Redis takes nothing back
-- of a script that fails, so what would fail on a key of another type fails here, before anything is written.
local starts, fields = {}, {}
local lists, groups = {}, {}
local at = 11
for c = 1, commits do
  starts[c] = at
  local kind = ARGV[at]
  if kind == 'D' then fields[#fields + 1] = ARGV[at + 1] end
  at = at + 1 + fence_width[kind]
  local effects = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, effects do
    local code = ARGV[at]
    if code == 'P' or code == 'Q' then lists[ARGV[at + 1]] = true
    elseif code == 'A' or code == 'H' or code == 'N' then groups[ARGV[at + 1]] = true end
    at = at + 1 + width[code]
  end
end
for list in pairs(lists) do redis.call('LLEN', list) end
if next(groups) then
  use(results_db)
  for p in pairs(groups) do redis.call('ZCARD', p .. '.j') end
  use(broker_db)
end
-- Held: waiting to begin, in the index, or begun.
local scores, has_begun, missing = {}, {}, {}
for from = 1, #fields, 4000 do
  local part = redis.call('ZMSCORE', KEYS[2], unpack(fields, from, math.min(#fields, from + 3999)))
  for i = 1, #part do
    local field = fields[from + i - 1]
    if part[i] then scores[field] = true else missing[#missing + 1] = field end
  end
end
for from = 1, #missing, 4000 do
  local part = redis.call('SMISMEMBER', KEYS[3], unpack(missing, from, math.min(#missing, from + 3999)))
  for i = 1, #part do has_begun[missing[from + i - 1]] = part[i] == 1 end
end
