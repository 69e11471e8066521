-- LOWER: ARGV = at, nonce for a key created here
local at, fresh_nonce = tonumber(ARGV[1]), tonumber(ARGV[2])
local state = load()
local created = not state
if created then
  state = create(fresh_nonce, 0, 0)
end
state.since_ms = math.min(state.since_ms, at)
if not created and at >= state.next_ms then
  return store(state)
end
state.next_ms = at
state.seq = state.seq + 1
local text = store(state)
publish('wake', text)
return text
