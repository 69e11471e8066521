-- KEYS[1] = hash of workers. Answers those who count, and forgets the others.
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local fields = redis.call('HGETALL', KEYS[1])
local present = {}
for at = 1, #fields, 2 do
  local until_ms, text = string.match(fields[at + 1], '^(%d+) (.*)$')
  if until_ms and tonumber(until_ms) > now_ms then
    present[#present + 1] = text
  else
    redis.call('HDEL', KEYS[1], fields[at])
  end
end
return present
