"""Pages of the documentation that stand elsewhere, or are made of the code."""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from wallet_engine.http.endpoints import ENDPOINTS
from wallet_engine.http.openapi import openapi_document
from wallet_engine.http.problems import KINDS
from wallet_engine.http.reference import reference_body

ROOT = Path(__file__).parents[1]
#: Page -> the file of the repository that it is.
COPIES = {
    "architecture.md": "ARCHITECTURE.md",
    "changelog.md": "CHANGELOG.md",
    "deploy.md": "cluster_config/DEPLOY.md",
    "runbooks.md": "cluster_config/RUNBOOKS.md",
}
REPOSITORY_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")


def on_files(files: Files, config: Any) -> Files:
    pages = {page: _copy((ROOT / source).read_text()) for page, source in COPIES.items()}
    pages["reference.md"] = f"# Reference\n\n{_reference()}\n"
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return markdown.replace("<!-- codes -->", _codes())


def _copy(text: str) -> str:
    """Links to other pages stay; those to files of the repository become their names."""
    by_name = {Path(source).name: page for page, source in COPIES.items()}

    def link(match: re.Match[str]) -> str:
        name = Path(match[2].partition("#")[0]).name
        return f"[{match[1]}]({by_name[name]})" if name in by_name else match[1]

    return REPOSITORY_LINK.sub(link, text)


def _reference() -> str:
    return reference_body(json.loads(openapi_document(ENDPOINTS)))


def _codes() -> str:
    rows = [
        f"| {kind.status} | `{code}` | {kind.title} | {'yes' if kind.retryable else ''} |"
        for code, kind in sorted(KINDS.items(), key=lambda item: (item[1].status, item[0]))
    ]
    return "\n".join(["| status | code | | retryable |", "|---|---|---|---|", *rows])
