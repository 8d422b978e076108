"""One call to a real receiver, which may do anything."""

import asyncio
import secrets
import ssl
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.receiver import Answer as Behaviour
from tests.support.receiver import Receiver, endless, raw, receiver, reset, status
from tests.support.waiting import until
from windlass.clock import system as clock
from windlass.eventlog.deliveries import Taken
from windlass.release import RELEASE
from windlass.webhooks import call as module
from windlass.webhooks.addresses import Resolver
from windlass.webhooks.call import Caller, TooLate
from windlass.webhooks.policy import Answer
from windlass.webhooks.signing import keys, sign

SECRET = "whsec_" + "QUFB" * 8


@pytest.fixture
def them() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def caller(allow_private: bool = True, secret: str = "") -> Caller:
    return Caller(resolver=Resolver(allow_private), keys=keys(secret), clock=clock)


def delivery(url: str, body: bytes = b"{}", **headers: str) -> Taken:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Taken("lane", "host", "endpoint", secrets.token_hex(16), "job", "job.StateChange", url, named, body, 0)


async def post(url: str, allow_private: bool = True) -> Answer:
    return await caller(allow_private).post(delivery(url), lambda: True)


async def test_a_call_is_a_post_of_json_with_its_id_and_time(them: Receiver) -> None:
    sent = delivery(f"{them.url}/hook?a=b", b'{"x":1}', X_A="ü", Authorization="Bearer t")
    assert await caller().post(sent, lambda: True) == Answer(200)
    (call,) = them.calls
    assert (call.path, call.body, call.id) == ("/hook?a=b", b'{"x":1}', sent.id)
    assert call.headers["content-type"] == "application/json; charset=UTF-8"
    assert call.headers["user-agent"] == f"windlass/{RELEASE}"
    assert call.headers["host"] == f"127.0.0.1:{them.port}"
    assert call.headers["authorization"] == "Bearer t"
    assert call.headers["x-a"].encode("latin-1").decode() == "ü"
    assert abs(int(call.headers["webhook-timestamp"]) - clock.now().timestamp()) < 60
    assert "webhook-signature" not in call.headers


async def test_a_webhook_may_set_the_content_type_but_not_who_we_are(them: Receiver) -> None:
    await caller(secret=SECRET).post(
        delivery(them.url, content_type="text/x", Webhook_Id="1", webhook_signature="2"), lambda: True
    )
    (call,) = them.calls
    assert call.headers["content-type"] == "text/x"
    assert len(call.id) == 32
    assert call.headers["webhook-signature"].startswith("v1,")


async def test_a_signature_is_of_what_was_sent(them: Receiver) -> None:
    await caller(secret=SECRET).post(delivery(them.url, b'{"x":1}'), lambda: True)
    (call,) = them.calls
    expected = sign([b64decode("QUFB" * 8)], call.id, int(call.headers["webhook-timestamp"]), call.body)
    assert call.headers["webhook-signature"] == expected


async def test_a_login_in_the_url_is_sent_as_one(them: Receiver) -> None:
    await post(f"http://me:p%40ss@127.0.0.1:{them.port}/")
    assert b64decode(them.calls[0].headers["authorization"].removeprefix("Basic ")) == b"me:p@ss"


@pytest.mark.parametrize("code", [204, 400, 429, 500])
async def test_the_status_is_the_answer(them: Receiver, code: int) -> None:
    them.answers["/"] = [status(code)]
    assert await post(them.url) == Answer(code)


@pytest.mark.parametrize(
    ("said", "understood"), [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("-1", 0.0), ("9" * 50, 0.0)]
)
async def test_a_receiver_says_when_to_come_again(them: Receiver, said: str, understood: float) -> None:
    them.answers["/"] = [status(503, Retry_After=said)]
    assert await post(them.url) == Answer(503, retry_after_s=understood)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(them: Receiver, code: int) -> None:
    them.answers["/"] = [status(code, Location=f"{them.url}/inside")]
    assert await post(them.url) == Answer(code)
    assert them.of("/inside") == []


async def test_an_endless_answer_is_not_read(them: Receiver) -> None:
    them.answers["/"] = [endless]
    async with asyncio.timeout(module.CALL_S):
        assert await post(them.url) == Answer(200)


async def test_an_answer_that_never_ends_after_its_status_counts(them: Receiver) -> None:
    hold = asyncio.Event()
    async with _silent(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", hold) as url:
        assert await post(url) == Answer(200)


async def test_who_never_answers_is_left() -> None:
    async with _silent(b"", asyncio.Event()) as url:
        began = clock.monotonic()
        answer = await post(url)
        assert answer == Answer(None, "no answer within 5 s")
        assert clock.monotonic() - began >= module.CALL_S - 0.1


async def test_who_drips_is_left() -> None:
    async with _dripping() as url:
        assert await post(url) == Answer(None, "no answer within 5 s")


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(reset, id="reset"),
        pytest.param(raw(), id="nothing"),
        pytest.param(raw(b"\x00\xff garbage\r\n\r\n"), id="garbage"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 200_000, b"\r\n\r\n"), id="a header without end"),
        pytest.param(raw(b"HTTP/9.9 x\r\n\r\n"), id="no status"),
    ],
)
async def test_what_is_no_answer_is_an_error_in_words(them: Receiver, behaviour: Behaviour) -> None:
    them.answers["/"] = [behaviour]
    answer = await post(them.url)
    assert answer.status is None
    assert answer.error
    assert not answer.is_final


async def test_nobody_there_is_an_error_in_words(them: Receiver) -> None:
    them.close()
    answer = await post(them.url)
    assert answer.status is None
    assert "refused" in answer.error.lower() or "failed" in answer.error.lower()


async def test_a_private_address_is_not_called_unless_it_may_be(them: Receiver) -> None:
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"):
        answer = await post(f"http://{host}:{them.port}/", allow_private=False)
        assert answer.is_final, host
        assert "WINDLASS_WEBHOOKS_ALLOW_PRIVATE" in answer.error
    assert them.calls == []
    assert await post(f"http://localhost:{them.port}/") == Answer(200)


async def test_nothing_is_sent_when_it_is_too_late(them: Receiver) -> None:
    with pytest.raises(TooLate):
        await caller().post(delivery(them.url), lambda: False)
    await post(f"{them.url}/later")
    await until("the later call", lambda: them.of("/later"))
    assert them.of("/") == []


# -- TLS ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for `localhost` that nobody vouches for, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", *made, *name, *files], check=True, capture_output=True)
    return folder


async def test_a_certificate_must_be_vouched_for_and_of_that_name(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with receiver(context) as them:
        unknown = await post(f"https://localhost:{them.port}/")
        assert unknown.status is None
        assert "certificate" in unknown.error.lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
        assert await post(f"https://localhost:{them.port}/") == Answer(200)
        elsewhere = await post(f"https://127.0.0.1:{them.port}/")
        assert elsewhere.status is None
        assert "mismatch" in elsewhere.error.lower() or "certificate" in elsewhere.error.lower()
        assert len(them.calls) == 1


# -- receivers that a threaded server cannot play -----------------------------------------------------------------------


class _silent:  # noqa: N801 used as a function
    """A receiver that says these bytes, and then nothing until `hold` is set."""

    def __init__(self, words: bytes, hold: asyncio.Event) -> None:
        self._words, self._hold = words, hold

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._words)
        await self._hold.wait()
        writer.close()

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._hold.set()
        self._server.close()
        await self._server.wait_closed()


class _dripping(_silent):  # noqa: N801
    """A receiver that says a status line, a byte each tenth of a second."""

    def __init__(self) -> None:
        super().__init__(b"HTTP/1.1 200 " + b"O" * 1000, asyncio.Event())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in self._words:
            if self._hold.is_set():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)
        writer.close()
