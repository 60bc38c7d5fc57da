"""Runs the engine's Lua scripts in one interpreter for all nodes; each text is compiled once.

The interpreter is the Lua 5.1 that fakeredis uses, kept across simulations: creating one takes longer than a
simulated second. The scripts keep nothing in it (a test proves that no global is left behind).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import lupa.lua51
from simulation.commands import CommandError, Status

_runtime = lupa.lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)
_prelude = _runtime.execute(
    b"""
    local unpack, type, error, pcall = unpack, type, error, pcall
    KEYS, ARGV, redis, cjson = {}, {}, {}, {}
    local function load(text)
      local chunk, problem = loadstring(text)
      if not chunk then error(problem) end
      return chunk
    end
    redis.REPL_NONE, redis.REPL_ALL = 0, 3
    local function install(call, decode, set_repl)
      cjson.decode, redis.set_repl = decode, set_repl
      redis.call = function(...)
        local reply = call(...)
        if type(reply) == 'table' and reply.err then error(reply) end -- as Redis 7 does it
        return reply
      end
    end
    local function run(chunk, keys, argv)
      KEYS, ARGV = keys, argv
      local passed, reply = pcall(chunk)
      if not passed then
        if type(reply) == 'table' then return 'error', reply.err end
        error(reply, 0)
      end
      return 'reply', reply
    end
    return load, install, run
    """
)
_load, _install, _run = _prelude
_globals_at_first = set(_runtime.globals().keys())

_chunks: dict[bytes, Any] = {}
_current: list[Callable[..., Any]] = []
#: Whether replicas get what the running script writes now.
_replicates = [True]


class ScriptError(Exception):
    """The script failed; what it had written stays."""


def sha_of(text: bytes) -> bytes:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


def table(values: Sequence[Any]) -> Any:
    """A Lua table; None becomes false, as Redis passes nil to a script."""
    return _runtime.table_from([_lua_value(value) for value in values])


def _lua_value(value: Any) -> Any:
    if type(value) is list:
        return table(value)
    if isinstance(value, Status):
        return _runtime.table_from({b"ok": bytes(value)})
    return False if value is None else value


def _decode(text: bytes) -> Any:
    """`cjson.decode` for the values of columns: strings, integers, arrays, objects."""
    return _decoded(json.loads(text))


def _decoded(value: Any) -> Any:
    match value:
        case str():
            return value.encode()
        case list():
            return _runtime.table_from([_decoded(each) for each in value])
        case dict():
            return _runtime.table_from({name.encode(): _decoded(each) for name, each in value.items()})
        case _:
            return value


def _call(*args: Any) -> Any:
    try:
        return _lua_value(_current[-1](*args))
    except CommandError as error:
        return _runtime.table_from({b"err": str(error).encode()})


def _plain(value: Any) -> Any:
    """A script's return value as Redis makes a reply of it."""
    if lupa.lua51.lua_type(value) == "table":
        return [_plain(value[number]) for number in range(1, len(value) + 1)]
    if value is False:
        return None
    return int(value) if type(value) is float else value


def _set_repl(mode: int) -> None:
    _replicates[0] = bool(mode)


def is_replicated() -> bool:
    """Whether replicas get what the running script writes now (`redis.set_repl`)."""
    return _replicates[0]


_install(_call, _decode, _set_repl)


def run_script(text: bytes, keys: Sequence[bytes], argv: Sequence[bytes], call: Callable[..., Any]) -> Any:
    """Run a script text; `call` is its `redis.call`. The reply is bytes, an int, None, or a list of these and of lists.

    Raises a command's `CommandError` that the script did not catch, and `ScriptError` for anything else.
    """
    chunk = _chunks.get(text)
    if chunk is None:
        chunk = _chunks[text] = _load(text)
    _current.append(call)
    try:
        how, reply = _run(chunk, _runtime.table_from(keys), _runtime.table_from(argv))
    except lupa.lua51.LuaError as error:
        raise ScriptError(str(error)) from None
    finally:
        _current.pop()
        _replicates[0] = True
    if how == b"error":
        raise CommandError(reply.decode())
    return _plain(reply)


def leaked_globals() -> set[bytes]:
    """Names that a script has added to the interpreter: Redis would have refused it."""
    return set(_runtime.globals().keys()) - _globals_at_first
