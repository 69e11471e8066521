-- The wake state as JSON text in KEYS[1], which is also the name of the channel. Stands before every
-- script. Each script does what the function of its name in wake.rs does; a test compares them.

local NEVER = 9007199254740991 -- 2^53 - 1, as in wake.rs

local function create(nonce, epoch, seq)
  return { nonce = nonce, epoch = epoch, seq = seq, next_ms = NEVER, mark = '', since_ms = NEVER, db_ms = 0 }
end

-- nil when the key is missing, or holds something this version cannot read: both are lived over.
local function load()
  local text = redis.call('GET', KEYS[1])
  if not text then
    return nil
  end
  local readable, state = pcall(cjson.decode, text)
  if not readable or type(state) ~= 'table' or type(state.mark) ~= 'string' then
    return nil
  end
  for _, field in ipairs({ 'nonce', 'epoch', 'seq', 'next_ms', 'since_ms', 'db_ms' }) do
    if type(state[field]) ~= 'number' then
      return nil
    end
  end
  return state
end

-- Not cjson.encode, not tostring: both write 14 digits, and a nonce would come back as another.
local function store(state)
  local text = string.format(
    '{"nonce":%.0f,"epoch":%.0f,"seq":%.0f,"next_ms":%.0f,"mark":%s,"since_ms":%.0f,"db_ms":%.0f}',
    state.nonce, state.epoch, state.seq, state.next_ms, cjson.encode(state.mark), state.since_ms, state.db_ms)
  redis.call('SET', KEYS[1], text)
  return text
end

local function publish(kind, text)
  redis.call('PUBLISH', KEYS[1], '{"kind":"' .. kind .. '","state":' .. text .. '}')
end

local function publish_soon(at)
  redis.call('PUBLISH', KEYS[1], string.format('{"kind":"soon","at":%.0f}', at))
end

