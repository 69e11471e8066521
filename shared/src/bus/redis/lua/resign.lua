-- KEYS[2] = leadership; ARGV = id
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
  redis.call('PUBLISH', KEYS[1], '{"kind":"resigned"}')
end
return 1
