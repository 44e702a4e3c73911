"""Revocations in Redis or Valkey, as the server has them: a log of what was said last about each thing.

============================  =========================================================================================
`…:entries`  hash             name of a revocation → its JSON form
`…:log`      sorted set       the names, by the number of the moment in which each was said last
`…:ends`     sorted set       the names, by the second in which nobody need remember them any more
`…:meta`     hash             `epoch` names this set of data, `seq` is the last number
`…:news:DB`  channel          the number, whenever there is a new one
============================  =========================================================================================

Every change is one script, so that nobody sees half of one. Numbers are microseconds of the server's clock, or one more
than the last: a server that comes back with old data, or none, gives no number out a second time. What has ended is
taken out with the next changes, some at a time. Needs Redis 5 or Valkey.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final, NamedTuple

from gatekit.clients.redis import RedisRefused, RedisServer, Script
from gatekit.mechanisms.denylist import LEEWAY, DenylistFull, ends
from gatekit.mechanisms.revocation import Revocation

PAGE: Final = 250
"""Revocations in one answer: a millisecond of the server's time, and few of ours."""
WRITE_SECONDS: Final = 2.0

_HEAD: Final = """
local meta, log, entries, ends = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = redis.call('TIME')

local function purge(most)
  local over = redis.call('ZRANGEBYSCORE', ends, '-inf', now[1], 'LIMIT', 0, most)
  for _, name in ipairs(over) do
    redis.call('ZREM', log, name)
    redis.call('HDEL', entries, name)
    redis.call('ZREM', ends, name)
  end
end

local function taken_back(text)
  local good, record = pcall(cjson.decode, text)
  return good and type(record) == 'table' and record.restored == true
end

local function write(name, text)
  local last = tonumber(redis.call('HGET', meta, 'seq') or '0')
  local seq = string.format('%.0f', math.max(last + 1, now[1] * 1000000 + now[2]))
  redis.call('HSET', meta, 'seq', seq)
  redis.call('HSET', entries, name, text)
  redis.call('ZADD', log, seq, name)
  return seq
end
"""

_ADD: Final = Script(
    _HEAD
    + """
-- ARGV: a new epoch, the channel, the most entries, whether only what is missing, then name, end and text of each.
-- What is known already, until then or longer, is left alone; `missing` does not say again what was taken back.
local most, missing = tonumber(ARGV[3]), ARGV[4] == '1'
local seq, refused = false, 0
purge(64)
redis.call('HSETNX', meta, 'epoch', ARGV[1])
for at = 5, #ARGV, 3 do
  local name, ending, text = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local known = redis.call('HGET', entries, name)
  local back = known and taken_back(known)
  local news = not known or (back and not missing)
  if known and not back then
    news = tonumber(redis.call('ZSCORE', ends, name) or '-inf') < tonumber(ending)
  end
  if news and not known and redis.call('ZCARD', log) >= most then
    refused = refused + 1
  elseif news then
    redis.call('ZADD', ends, ending, name)
    seq = write(name, text)
  end
end
if seq then redis.call('PUBLISH', ARGV[2], seq) end
return {seq or redis.call('HGET', meta, 'seq') or '0', refused}
"""
)

_RESTORE: Final = Script(
    _HEAD
    + """
-- ARGV: the channel, the name, the text that takes it back. It is kept for as long as what it takes back would have been.
local known = redis.call('HGET', entries, ARGV[2])
if not known or taken_back(known) or tonumber(redis.call('ZSCORE', ends, ARGV[2]) or '-inf') <= tonumber(now[1]) then
  return '0'
end
local seq = write(ARGV[2], ARGV[3])
redis.call('PUBLISH', ARGV[1], seq)
return seq
"""
)

_READ: Final = Script(
    """
-- KEYS: meta, log, entries. ARGV: the number and the epoch one has read to, how many entries at most.
-- The answer: epoch, last number there is, number that was read to, texts.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'seq')
local epoch, seq, since = state[1] or '', state[2] or '0', ARGV[1]
if epoch ~= ARGV[2] then since = '0' end
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. since, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local names = {}
for at = 1, #found, 2 do names[#names + 1] = found[at] end
local answer = {epoch, seq, seq}
if #names > 0 then
  if #names >= tonumber(ARGV[3]) then answer[3] = found[#found] end
  for _, text in ipairs(redis.call('HMGET', KEYS[3], unpack(names))) do
    if text then answer[#answer + 1] = text end
  end
end
return answer
"""
)

_LEASE: Final = Script(
    """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)

_RELEASE: Final = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")


class Page(NamedTuple):
    """What was said after a number: in which epoch, the last number there is, the one this page goes to, and the texts."""

    epoch: str
    last: int
    upto: int
    texts: list[bytes]


class RevocationLog:
    """The log on one server, under a prefix. All of it raises StoreUnavailable."""

    def __init__(self, server: RedisServer, prefix: str, max_entries: int) -> None:
        # One hash slot for all of it, since a script touches several.
        own = f"{prefix}:{{revocations}}"
        self.channel = f"{own}:news:{server.database}"
        self._server = server
        self._keys = [f"{own}:{name}" for name in ("meta", "log", "entries", "ends")]
        self._lease = f"{own}:filling"
        self._max_entries = max_entries

    async def add(self, records: Sequence[Revocation], epoch: str, *, missing: bool = False) -> None:
        """Have these stored and told to everybody. `epoch` names the data if there are none yet. `missing`: what is not
        there, without contradicting that something was taken back. Raises DenylistFull as well."""
        arguments: list[str] = [epoch, self.channel, str(self._max_entries), str(int(missing))]
        for record in records:
            end = ends(record) + LEEWAY
            arguments += [record.name, "+inf" if end == inf else f"{end:.0f}", record.as_json()]
        _, refused = await self._server.run(_ADD, self._keys, arguments, WRITE_SECONDS)
        if refused:
            raise DenylistFull(f"{self._server.shown} has {self._max_entries} revocations, which is all it may have")

    async def restore(self, record: Revocation) -> int:
        """Take back what is called the same; the number under which that was said, 0 where it was not in force."""
        arguments = [self.channel, record.name, record.as_json()]
        return _number(await self._server.run(_RESTORE, self._keys, arguments, WRITE_SECONDS))

    async def read(self, since: int, epoch: str) -> Page:
        """A page of what was said after that number of that epoch; from the beginning, where the epoch is another."""
        found = await self._server.run(_READ, self._keys[:3], [since, epoch, PAGE])
        return Page(found[0].decode("ascii", "replace"), _number(found[1]), _number(found[2]), found[3:])

    async def run_id(self) -> str:
        """What names this run of the server, "" where we may not ask."""
        try:
            return str((await self._server.ask("INFO", "server")).get("run_id", ""))
        except RedisRefused:
            return ""

    async def lease(self, holder: str, seconds: float) -> bool:
        """Whether `holder` alone may fill in what is missing, for so many seconds from now."""
        return bool(await self._server.run(_LEASE, [self._lease], [holder, int(seconds * 1000)]))

    async def release(self, holder: str) -> None:
        await self._server.run(_RELEASE, [self._lease], [holder])


def batches(records: Iterable[Revocation], size: int = PAGE) -> Iterable[list[Revocation]]:
    """These, so many at a time."""
    batch: list[Revocation] = []
    for record in records:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() else 0
