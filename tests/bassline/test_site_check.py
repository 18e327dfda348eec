"""`bassline crawl --check` and `--try`, and a list on the command line, as a user has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from .conftest import Run

PAGE = b"""<a class="c" href="/basses?x=1">Basses</a> <a class="c" href="/drums">Drums</a> <a class="c"
href="https://elsewhere.example/">Away</a><ul><li><a href="/p/1"><img data-src="/1.jpg" src="data:,"></a><h2>Jazz Bass
[bold]</h2></li><li><a href="/p/2"></a><h2>Stool</h2></li></ul><a rel="next" href="/?p=2">on</a>"""
FILE = """[site]
name = "small"
start = ["{url}"]
allow_private = ["127.0.0.1"]
[follow]
links = "a.c"
deny_text = ["Drums"]
[labels]
conflict = "first-rule"
[[labels.rules]]
label = "bass"
title = ["Bass"]
[[labels.rules]]
label = "jazz"
title = ["Jazz"]
[listing]
item = "li"
link = "a::attr(href)"
image = ["img"]
title = "h2"
next = "a[rel=next]"
"""


class _Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE if self.path == "/" else b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Shop) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def site(tmp_path: Path, url: str) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(FILE.format(url=url))
    return path


def test_a_site_file_is_explained(bassline: Run, site: Path) -> None:
    said = " ".join(bassline("crawl", site, "--check").stdout.split())
    for part in ("calls only 127.0.0.1", "down to 8 levels", "1 bass title Bass", "the one whose rule stands first"):
        assert part in said
    assert "10 requests a second, 8 at once" in said
    told = json.loads(bassline("crawl", site, "--check", "--json").stdout)
    assert told["site"] == "small"
    assert told["file"]["labels"]["rules"][1]["label"] == "jazz"


def test_a_page_is_tried(bassline: Run, site: Path, url: str) -> None:
    said = bassline("crawl", site, "--try", url).stdout
    words = " ".join(said.split())
    assert "listing.image 1 1 in 1 of 2" in words
    assert "[bold]" in words  # the shop's text is not our markup
    assert "rule 1; 2 (jazz)" in words
    assert f"next page: {url}?p=2" in words
    assert "would be left out: http-404" in words
    told = json.loads(bassline("crawl", site, "--try", url, "--path", "A / B", "--json").stdout)
    assert told["path"] == ["A", "B"]
    assert [(item["label"], item["fate"]) for item in told["items"]] == [
        ("bass", "fetched"),
        (None, "no label rule fits"),
    ]
    assert [(link["text"], link["why_not"]) for link in told["links"]] == [
        ("Basses", None),
        ("Drums", "deny_text Drums"),
        ("Away", "host elsewhere.example is not among [site] hosts"),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["SITE"], 2, "--out: missing"),
        (["SITE", "--path", "A"], 2, "--path: is of --try URL"),
        (["SITE", "--try", "nonsense"], 2, "not an http(s) address"),
        (["SITE", "--try", "https://elsewhere.example/"], 1, "add its host to [site] hosts"),
        (["SITE", "--try", "URLmissing"], 1, "http-404"),
        (["SITE", "--url-column", "x", "--check"], 2, "only a list has columns"),
        (["no.csv", "--out", "set"], 2, "no.csv: no such file"),
        (["list.csv", "--start", "http://x/", "--out", "set"], 2, "a list has no start page"),
        (["list.csv", "--try", "http://x/"], 2, "a list has no pages to try"),
        (["list.csv", "--out", "set", "--label-column", "kind"], 2, "no column 'kind' (name one with --label-column)"),
    ],
)
def test_wrong_usage_gets_one_line(
    bassline: Run, site: Path, url: str, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "list.csv").write_text("url,label\nhttp://127.0.0.1/x,a\n")
    given = [
        str(site) if word == "SITE" else word.replace("URL", url) if word != "--path" else word for word in arguments
    ]
    done = bassline("crawl", *given, check=code)
    assert said in " ".join(done.stderr.split())


def test_a_list_is_explained(bassline: Run, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("url,label\nhttp://127.0.0.1/x,a\n")
    said = " ".join(bassline("crawl", "list.csv", "--check").stdout.split())
    assert "reads the list list.csv" in said
    assert "no private address" in said
