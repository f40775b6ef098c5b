"""The OpenAPI 3.1 description, made from the table of routes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from inprod import errors
from inprod.endpoint import Endpoint

_PARAMETER = re.compile(r"{([a-zA-Z_][a-zA-Z0-9_]*)(?::[a-z]+)?}")


def describe(endpoints: Iterable[Endpoint], version: str) -> dict[str, Any]:
    """Return the OpenAPI document of the API's endpoints; pages are left out."""
    paths: dict[str, dict[str, Any]] = {}
    for one in sorted(endpoints, key=lambda each: (each.path, each.method)):
        if one.kind != "page":
            path = _PARAMETER.sub(r"{\1}", one.path)
            paths.setdefault(path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "inprod",
            "version": version,
            "description": "Test in production, safely: flags, events, guards and rollouts.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _error_schema()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "honeycomb": {"type": "apiKey", "in": "header", "name": "x-honeycomb-team"},
            },
        },
    }


def _operation(one: Endpoint) -> dict[str, Any]:
    content = "text/event-stream" if one.kind == "stream" else "application/json"
    responses: dict[str, Any] = {
        "200": {"description": one.gives or "Done.", "content": {content: {"schema": {}}}}
    }
    raised = dict.fromkeys(one.raises + (("Denied",) if one.role else ()))
    for name in raised:
        kind = getattr(errors, name)
        description = (kind.__doc__ or name).partition("\n")[0]
        responses[str(kind.status)] = _failure(description)
    if one.role:
        responses["401"] = _failure("The request carries no valid key.")
    operation: dict[str, Any] = {
        "operationId": f"{one.method.lower()}_{re.sub('[^a-zA-Z0-9]+', '_', one.path).strip('_')}",
        "summary": one.sentence,
        "tags": [_tag(one.path)],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(one.path)
        ],
        "responses": dict(sorted(responses.items())),
    }
    if one.takes and one.method in ("POST", "PUT"):
        operation["requestBody"] = {
            "description": one.takes,
            "content": {"application/json": {"schema": {}}},
        }
    elif one.takes:
        operation["description"] = f"Takes {one.takes}."
    if one.role:
        operation["security"] = [{"bearer": []}, {"header": []}, {"honeycomb": []}]
        operation["x-inprod-role"] = one.role.value
    return operation


def _tag(path: str) -> str:
    parts = [part for part in path.split("/") if part and not part.startswith("{")]
    return parts[1] if len(parts) > 1 and parts[0] == "api" else (parts or ["/"])[0]


def _failure(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _error_schema() -> dict[str, Any]:
    names = ("code", "message", "where", "hint")
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": list(names),
                "properties": {name: {"type": "string"} for name in names},
            }
        },
    }
