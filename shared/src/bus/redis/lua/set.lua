-- SET: ARGV = token, nonce, next. Answers false when refused.
local token, nonce, read_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local state = load()
if not state or state.nonce ~= nonce or state.mark ~= token then
  return false
end
local next_ms = math.min(read_ms, state.since_ms)
local changed = next_ms ~= state.next_ms
state.next_ms = next_ms
state.mark = ''
state.since_ms = NEVER
if not changed then
  return store(state)
end
state.seq = state.seq + 1
local text = store(state)
publish('wake', text)
return text
