"""The page at /docs: complete, valid HTML, and without anything from other servers."""

import re
from html.parser import HTMLParser

from starlette.types import ASGIApp
from unit.http.wallet_double import call

from wallet_engine.http.endpoints import ENDPOINTS

_VOID = {"meta", "br"}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag not in _VOID:
            self.open.append(tag)
        if named.get("id"):
            self.ids.add(str(named["id"]))
        if named.get("href"):
            self.links.add(str(named["href"]))
        self.loads += [str(named["src"])] if "src" in named else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_sound_and_stands_alone(app: ASGIApp) -> None:
    response = call(app, "GET", "/docs")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = _Page()
    page.feed(response.text)
    page.close()
    assert page.open == []
    assert page.links == {link for link in page.links if link.removeprefix("#") in page.ids}
    assert not page.loads
    assert "<script" not in response.text
    assert not re.search(r"(?:src|href|url\()=?[\"']?https?:", response.text)


def test_every_endpoint_is_there(app: ASGIApp) -> None:
    text = call(app, "GET", "/docs").text
    for endpoint in ENDPOINTS:
        assert f"<code>{endpoint.method} {endpoint.template}</code>" in text
