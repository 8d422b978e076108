"""URLs that may be called, and those that may not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import Invalid
from windlass.urls import URL_MAX, Url, parse


@pytest.mark.parametrize(
    ("text", "expected", "authority"),
    [
        ("http://a", Url("http", "a", 80, "/"), "a:80"),
        ("HTTPS://Example.COM/h?x=1&y=a%20b#part", Url("https", "example.com", 443, "/h?x=1&y=a%20b"), "example.com:443"),
        ("http://127.0.0.1:8080/a/b", Url("http", "127.0.0.1", 8080, "/a/b"), "127.0.0.1:8080"),
        ("http://[::1]:81?q", Url("http", "::1", 81, "/?q"), "[::1]:81"),
        ("https://me:p%40ss@a/", Url("https", "a", 443, "/", "me:p@ss"), "a:443"),
        ("http://bücher.example/ü", Url("http", "xn--bcher-kva.example", 80, "/%C3%BC"), "xn--bcher-kva.example:80"),
        ("http://my_service:9/a[0]", Url("http", "my_service", 9, "/a[0]"), "my_service:9"),
    ],
)
def test_a_url_has_parts(text: str, expected: Url, authority: str) -> None:
    assert parse(text) == expected
    assert parse(text).authority == authority


def test_an_endpoint_is_host_port_and_path() -> None:
    first, *others = ["http://a/b?c", "http://a:80/b?d#e", "http://a/c", "http://b/b", "http://a:81/b"]
    assert [parse(url).endpoint == parse(first).endpoint for url in others] == [True, False, False, False]


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "//a", "ftp://a", "file:///etc/passwd", "http://", "http:///x", "http://a b", "http://a/%zz",
        "http://a\r\nHost: b", "http://a:0", "http://a:65536", "http://a:x", "http://[::1",
        "http://[fe80::1%25eth0]/", "http://a/\x00", "http://\ud800",
        "http://-a", "http://" + "a" * URL_MAX, "http://a/{{ inputs.x }}", "http://a..é/" + "ü" * 10,
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse(text)


@given(st.text(max_size=60).map("http://".__add__) | st.text(max_size=60))
def test_any_text_is_a_url_that_can_be_sent_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except Invalid:
        return
    assert found.target.startswith("/")
    assert (found.host + found.target).isascii()
    assert not any(c.isspace() or not c.isprintable() for c in found.host + found.target)
    assert 0 < found.port < 65536
