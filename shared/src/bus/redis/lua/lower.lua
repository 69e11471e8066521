-- LOWER: ARGV = at, a moment the database's clock has shown, nonce for a key created here
local SOON_MS = 250 -- as in wake.rs
local at, now, fresh_nonce = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local state = load()
local created = not state
if created then
  state = create(fresh_nonce, 0, 0)
end
state.since_ms = math.min(state.since_ms, at)
if not created and at >= state.next_ms then
  local next_has_passed = state.next_ms <= now
  if next_has_passed and at <= now then
    publish_soon(0)
  elseif next_has_passed and at <= now + SOON_MS then
    publish_soon(at)
  end
  return store(state)
end
state.next_ms = at
state.seq = state.seq + 1
local text = store(state)
publish('wake', text)
return text
