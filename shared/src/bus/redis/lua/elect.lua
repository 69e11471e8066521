-- KEYS[2] = leadership; ARGV = id, ttl ms. Answers whether the id leads now. Who leads already is told
-- so: an earlier answer may have been lost.
local id, ttl_ms = ARGV[1], ARGV[2]
if redis.call('SET', KEYS[2], id, 'NX', 'PX', ttl_ms) then
  return 1
end
if redis.call('GET', KEYS[2]) ~= id then
  -- One that lasts for ever (a restored dump, somebody's PERSIST) belongs to nobody who beats: let it end as others do.
  if redis.call('PTTL', KEYS[2]) == -1 then
    redis.call('PEXPIRE', KEYS[2], ttl_ms)
  end
  return 0
end
redis.call('PEXPIRE', KEYS[2], ttl_ms)
return 1
