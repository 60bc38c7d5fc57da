"""No text is read or written in the locale's encoding: scripts would get other digests, and files other bytes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("wallet_engine", "bench") for path in (ROOT / folder).rglob("*.py"))
#: Function -> position of its argument `encoding`.
TEXT_METHODS = {"read_text": 0, "write_text": 1}


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def is_os(function: ast.expr) -> bool:
    """Whether the function is `os.open`, which opens no text."""
    return isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "os"


def is_text_mode(call: ast.Call, position: int) -> bool:
    """Whether the call opens a file as text. A mode that is no constant is not the mode of a file."""
    mode = keyword(call, "mode") or (call.args[position] if len(call.args) > position else None)
    if mode is None:
        return position == 1 or not call.args
    text = mode.value if isinstance(mode, ast.Constant) else None
    return isinstance(text, str) and set(text) <= set("rwax+t")


def by_locale(tree: ast.AST) -> Iterator[int]:
    """The lines of calls that use the locale's encoding."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or keyword(call, "encoding") is not None:
            continue
        is_method = isinstance(call.func, ast.Attribute)
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if (
            (name in TEXT_METHODS and len(call.args) <= TEXT_METHODS[name])
            or (name == "open" and not is_os(call.func) and is_text_mode(call, 0 if is_method else 1))
            or (name == "fdopen" and is_text_mode(call, 1))
            or (name == "TextIOWrapper" and len(call.args) < 2)
            or name in ("getoutput", "getstatusoutput", "popen")
            or keyword(call, "text") is not None
            or keyword(call, "universal_newlines") is not None
        ):
            yield call.lineno


def test_every_encoding_is_named() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{n}" for path in SOURCES for n in by_locale(ast.parse(path.read_bytes()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "Path('a').read_text()",
        "Path('a').write_text('b')",
        "open('a')",
        "open('a', 'w')",
        "open('a', mode='r+')",
        "Path('a').open()",
        "Path('a').open('w')",
        "os.fdopen(3, 'w')",
        "io.TextIOWrapper(file)",
        "subprocess.run(['a'], text=True)",
        "subprocess.Popen(['a'], universal_newlines=True)",
        "subprocess.getoutput('a')",
    ],
)
def test_what_is_left_to_the_locale_is_found(line: str) -> None:
    assert list(by_locale(ast.parse(line))) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "Path('a').read_text('utf-8')",
        "Path('a').write_text('b', 'utf-8')",
        "open('a', 'rb')",
        "open('a', 'w', encoding='ascii')",
        "Path('a').open('ab')",
        "os.open('a', os.O_RDWR)",
        "api.open('account', 'USD')",
        "Connection.open(address, lost)",
        "subprocess.run(['a'], encoding='utf-8')",
    ],
)
def test_what_names_its_encoding_is_not(line: str) -> None:
    assert list(by_locale(ast.parse(line))) == []
