"""The reference of the interface as one HTML page without scripts, made from the OpenAPI document."""

import json
from collections.abc import Iterator
from html import escape
from typing import Any, Final

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f4f6f8;padding:.7rem;overflow-x:auto}
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{border-bottom:1px solid #dde2e8;padding:.25rem .6rem;
text-align:left;vertical-align:top}h2{margin-top:2.5rem;border-top:2px solid #dde2e8;padding-top:1rem}
.method{display:inline-block;min-width:3.5rem;font-weight:600}nav a{display:block;text-decoration:none}
@media(prefers-color-scheme:dark){body{color:#dde2e8;background:#14181d}pre{background:#1d232a}a{color:#7fb3ff}
td,th,h2{border-color:#323a44}}
"""
_PROBLEM: Final = "application/problem+json"


def reference_page(document: bytes) -> bytes:
    """The complete HTML page."""
    described = json.loads(document)
    title = escape(described["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1>{reference_body(described)}</body></html>"
    ).encode()


def reference_body(document: dict[str, Any]) -> str:
    """The content of the page, without its head."""
    operations = [
        (method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    links = "".join(
        f'<a href="#{operation["operationId"]}"><code><span class="method">{method}</span> {escape(path)}</code></a>'
        for method, path, operation in operations
    )
    schemas = document["components"]["schemas"]
    parts = [f"<p>{escape(document['info']['description'])}</p><nav>{links}</nav>"]
    parts += ["".join(_operation(*operation, schemas)) for operation in operations]
    parts.append("<h2>Objects</h2>")
    parts += [_object(name, schema) for name, schema in schemas.items()]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    name = operation["operationId"]
    yield f'<h2 id="{name}"><code>{method} {escape(path)}</code></h2><p>{escape(operation["summary"])}</p>'
    parameters = operation.get("parameters", [])
    if parameters:
        rows = (
            (f"<code>{escape(p['name'])}</code>", p["in"], _type(p["schema"]), _words(p, p["schema"]))
            for p in parameters
        )
        yield _table(("Parameter", "In", "Type", ""), rows)
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        schema = schemas[_name_of(content["schema"])]
        yield _fields(schema, with_required=True)
        for example in content.get("examples", {}).values():
            yield f"<pre>{escape(json.dumps(example['value'], indent=2, ensure_ascii=False))}</pre>"
    answers = (
        (f"<code>{status}</code>", *_answer(answer)) for status, answer in operation["responses"].items()
    )
    yield _table(("Status", "Answer", ""), answers)


def _answer(answer: dict[str, Any]) -> tuple[str, str]:
    if "content" not in answer:
        return "nothing", ""
    (media, content), *_ = answer["content"].items()
    if media == _PROBLEM:
        codes = content["schema"]["allOf"][1]["properties"]["code"]["enum"]
        return "problem", ", ".join(f"<code>{escape(code)}</code>" for code in codes)
    return _type(content["schema"]) if "$ref" in content["schema"] else escape(media), ""


def _object(name: str, schema: dict[str, Any]) -> str:
    described = f"<p>{escape(schema['description'])}</p>" if "description" in schema else ""
    return f'<h3 id="{name}">{name}</h3>{described}{_fields(schema, with_required=False)}'


def _fields(schema: dict[str, Any], *, with_required: bool) -> str:
    required = schema.get("required", ())
    rows = (
        (
            f"<code>{escape(name)}</code>",
            _type(field),
            ("required" if name in required else "") if with_required else "",
            _words(field),
        )
        for name, field in schema["properties"].items()
    )
    return _table(("Field", "Type", "", ""), rows)


def _words(*described: dict[str, Any]) -> str:
    """The first description that is found; empty without one."""
    for schema in described:
        for found in (schema, *schema.get("anyOf", ())):
            if "description" in found:
                return escape(str(found["description"]))
    return ""


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = _name_of(schema)
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if schema.get("type") == "array":
        return f"array of {_type(schema['items'])}"
    if "enum" in schema and len(schema["enum"]) <= 5:
        return " | ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    return escape(str(schema.get("type", "any")))


def _name_of(schema: dict[str, Any]) -> str:
    name: str = schema["$ref"].rpartition("/")[2]
    return name


def _table(headings: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
