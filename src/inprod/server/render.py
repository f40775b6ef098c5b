"""Templates and static files: the pages' HTML from each slice's folder, assets by their content.

error.html           server/html/error.html
flags/list.html      flags/edge/html/list.html
/static/x.js         revalidated by ETag
/static/@<hash>/x.js kept for a year: the hash is that of all assets, so relative imports hold
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from inprod.errors import Missing, nearest

SLICES_WITH_PAGES = ("flags", "events", "rollouts")
HTML_TYPE = "text/html; charset=utf-8"
FOREVER = "public, max-age=31536000, immutable"
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("image/svg+xml", ".svg")


class Pages:
    """Renders templates; every template sees `request`, `actor`, `grant` and `static()`."""

    def __init__(
        self, *, filters: Mapping[str, Callable[..., str]], static: Callable[[str], str]
    ) -> None:
        self._static = static
        package = Path(str(resources.files("inprod")))
        slices = {
            name: FileSystemLoader(package / name / "edge" / "html") for name in SLICES_WITH_PAGES
        }
        self._environment = Environment(
            loader=ChoiceLoader([PrefixLoader(slices), FileSystemLoader(package / "server/html")]),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(filters)

    def render(self, request: Request, name: str, context: Mapping[str, object]) -> Response:
        """Return the template `name` as a page, never kept by caches."""
        grant = getattr(request.state, "grant", None)
        actor = getattr(request.state, "actor", None) if grant is not None else None
        known: dict[str, object] = {
            "request": request, "grant": grant, "actor": actor, "path": request.url.path,
            "static": self._static,
        }  # fmt: skip
        text = self._environment.get_template(name).render({**known, **context})
        return Response(text, media_type=HTML_TYPE, headers={"cache-control": "no-store"})


class Static:
    """The assets, read once at start."""

    def __init__(self) -> None:
        root = Path(str(resources.files("inprod.server"))) / "static"
        self._files = {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
        whole = hashlib.sha256()
        for name, content in self._files.items():
            whole.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
        self._hash = whole.hexdigest()[:16]
        self._tags = {
            name: f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            for name, content in self._files.items()
        }

    def url(self, name: str) -> str:
        """Return the address of an asset that may be kept forever."""
        assert name in self._files, f"{name} is not an asset"
        return f"/static/@{self._hash}/{name}"

    async def file(self, request: Request) -> Response:
        """Answer one asset; raises Missing with the nearest name."""
        name: str = request.path_params["name"]
        forever = name.startswith(f"@{self._hash}/")
        name = name.partition("/")[2] if name.startswith("@") else name
        content = self._files.get(name)
        if content is None:
            raise Missing(
                "unknown_asset", f"`{name[:100]}` is not an asset", hint=nearest(name, self._files)
            )
        headers = {"etag": self._tags[name], "cache-control": FOREVER if forever else "no-cache"}
        if request.headers.get("if-none-match") == self._tags[name]:
            return Response(status_code=304, headers=headers)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(content, media_type=kind, headers=headers)
