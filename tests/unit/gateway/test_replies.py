"""Answers as bytes."""

import json

from windlass.errors import Conflict, Invalid, NotFound, Unavailable
from windlass.gateway.replies import error_reply, render


def test_an_answer_ends_in_a_newline() -> None:
    assert render({"a": 1}) == b'{"a":1}\n'


def test_what_could_end_a_script_is_escaped() -> None:
    text = "</script> & \u2028\u2029 ‘ä’"
    body = render({text: text})
    assert not any(character in body.decode() for character in "<>&\u2028\u2029")
    assert json.loads(body) == {text: text}


def test_an_error_has_the_status_of_its_class() -> None:
    statuses = [error_reply(kind("m")).status for kind in (Invalid, NotFound, Conflict, Unavailable)]
    assert statuses == [400, 404, 409, 503]


def test_an_error_that_may_pass_says_when_to_ask_again() -> None:
    assert error_reply(Unavailable("m")).headers == [(b"retry-after", b"2")]
    assert error_reply(Invalid("m")).headers == []
