"""Look for links in the built documentation that lead nowhere.

    python tools/check_links.py [docs/_build/html]

Files and anchors are looked up; addresses on the network are listed and not asked for.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where a tag leads, and what it is called."""
        for name, value in attrs:
            if value and name in ("id", "name"):
                self.anchors.add(value)
            if value and (tag, name) in (("a", "href"), ("img", "src"), ("link", "href"), ("script", "src")):
                self.links.append(value)


def main() -> None:
    """See the module's text."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/_build/html").resolve()
    pages = {
        path: Page(path.read_text(encoding="utf-8"))
        for path in root.rglob("*.html")
        if "_static" not in path.parts
    }
    checked, broken, elsewhere = 0, [], set()
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                elsewhere.add(link)
                continue
            checked += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            known = pages.get(target)
            missing_anchor = (
                known is not None and parts.fragment and unquote(parts.fragment) not in known.anchors
            )
            if not target.exists() or missing_anchor:
                broken.append(f"{path.relative_to(root)}: {link}")
    print(f"{len(pages)} pages, {checked} links within, {len(broken)} broken, {len(elsewhere)} to elsewhere")
    for line in sorted(set(broken)):
        print(line)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
