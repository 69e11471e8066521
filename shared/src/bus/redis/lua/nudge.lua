-- NUDGE. Answers false when the key is missing.
local state = load()
if not state then
  return false
end
state.seq = state.seq + 1
local text = store(state)
publish('nudge', text)
return text
