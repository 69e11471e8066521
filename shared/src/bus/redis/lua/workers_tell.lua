-- KEYS[1] = hash of workers; ARGV = id, JSON, for how long it counts in ms. Each field begins with its end, in ms.
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now_ms + ARGV[3]) .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
