-- MARK: ARGV = token, epoch, nonce for a key created here
local token, epoch, fresh_nonce = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local state = load() or create(fresh_nonce, epoch, 1)
state.epoch = math.max(state.epoch, epoch)
state.mark = token
state.since_ms = NEVER
return store(state)
