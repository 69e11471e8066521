-- BEAT: KEYS[2] = leadership; ARGV = id, ttl ms, epoch, db_ms, seen nonce, seen seq, fresh nonce.
-- Answers false when the leadership is not the id's.
local id, ttl_ms = ARGV[1], ARGV[2]
local epoch, db_ms = tonumber(ARGV[3]), tonumber(ARGV[4])
local seen_nonce, seen_seq, fresh_nonce = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if redis.call('GET', KEYS[2]) ~= id then
  return false
end
redis.call('PEXPIRE', KEYS[2], ttl_ms)
local state = load() or create(fresh_nonce, epoch, seen_seq + 1)
if state.nonce == seen_nonce and state.seq < seen_seq then
  state.nonce = fresh_nonce
  state.seq = seen_seq + 1
end
state.epoch = math.max(state.epoch, epoch)
state.db_ms = db_ms
local text = store(state)
publish('heartbeat', text)
return text
