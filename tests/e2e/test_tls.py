"""Both links under TLS, with certificates made for the test, and what is said where one does not trust the other."""

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.support.stack import EmbeddedNats, EmbeddedPostgres, Service, wait_for, windlass
from windlass.local import ports
from windlass.local.data import Data

NAME = "127.0.0.1"
"""What the servers' certificate was made for."""


class Secured:
    """Servers that speak TLS alone, NATS only with who shows a certificate, and the files to reach them."""

    def __init__(self, path: Path, held: ExitStack) -> None:
        self.path = path
        authority, stranger = trustme.CA(), trustme.CA()
        self.ca, self.other = self._file("ca.pem", authority.cert_pem), self._file("other.pem", stranger.cert_pem)
        client = authority.issue_cert("client.example")
        self.cert, self.key = self._chain("client", client), self._file("client.key", client.private_key_pem)
        server = authority.issue_cert(NAME)
        cert, key = self._chain("server", server), self._file("server.key", server.private_key_pem)

        data = path / "data"
        self.postgres = EmbeddedPostgres(data)
        held.callback(self.postgres.stop)
        self.postgres.server.migrate()
        self.postgres.admit()
        self.postgres.stop()
        self._secure_postgres(self.postgres.data, server)
        self.postgres.start()

        self.nats = EmbeddedNats(data)
        held.callback(self.nats.stop)
        self.nats.stop()
        with (self.nats.data.nats / "nats.conf").open("a") as conf:
            files = {"cert_file": cert, "key_file": key, "ca_file": self.ca}
            conf.write(f"tls {{ {', '.join(f'{name}: {json.dumps(file)}' for name, file in files.items())}, verify: true }}\n")
        self.nats.start()

    def _file(self, name: str, blob: trustme.Blob) -> str:
        blob.write_to_path(self.path / name)
        return str(self.path / name)

    def _chain(self, name: str, cert: trustme.LeafCert) -> str:
        for blob in cert.cert_chain_pems:
            blob.write_to_path(self.path / f"{name}.pem", append=True)
        return str(self.path / f"{name}.pem")

    @staticmethod
    def _secure_postgres(data: Data, server: trustme.LeafCert) -> None:
        """Its key is for the eyes of the user it runs as, who owns its folder."""
        owner = data.postgres.stat()
        for name, blob in (("server.crt", server.cert_chain_pems[0]), ("server.key", server.private_key_pem)):
            blob.write_to_path(data.postgres / name)
            os.chmod(data.postgres / name, 0o600)
            os.chown(data.postgres / name, owner.st_uid, owner.st_gid)
        with (data.postgres / "postgresql.conf").open("a") as conf:
            conf.write("ssl = on\n")
        access = data.postgres / "pg_hba.conf"
        access.write_text(access.read_text().replace("host all", "hostssl all"))

    def environ(self, service: str) -> dict[str, str]:
        """What a service needs to reach both."""
        return {
            "WINDLASS_NATS_URL": self.nats.url_of(service).replace("nats://", "tls://"),
            "WINDLASS_NATS_CA": self.ca, "WINDLASS_NATS_CERT": self.cert, "WINDLASS_NATS_KEY": self.key,
            "WINDLASS_POSTGRES_DSN": self.dsn(service, f"sslmode=verify-full&sslrootcert={self.ca}"),
            "WINDLASS_PROFILE": "fast", "WINDLASS_SPOOL": str(self.path / "spool"),
        }  # fmt: skip

    def dsn(self, service: str, options: str) -> str:
        """A service's way to the database."""
        return f"{self.postgres.dsn_of('windlass', f'windlass_{service}' if service != 'worker' else 'postgres')}?{options}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, servers: object) -> Iterator[Secured]:
    with ExitStack() as held:
        path = tmp_path_factory.mktemp("tls")
        path.chmod(0o755)
        yield Secured(path, held)


def _ask(url: str, body: bytes | None = None) -> dict[str, object]:
    request = urllib.request.Request(url, body, {"content-type": "text/yaml"} if body else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def test_a_job_runs_with_both_links_under_tls(secured: Secured) -> None:
    port = ports.pick()
    with ExitStack() as held:
        for name, *options in (
            ("coordinator",),
            ("worker", "--runtime", "shell"),
            ("gateway", "--port", str(port.number)),
        ):
            service = Service(name, *options, environ=secured.environ(name))
            held.callback(service.end, signal.SIGTERM)
        url = f"http://127.0.0.1:{port.number}"

        def submitted() -> str | None:
            try:
                return str(_ask(f"{url}/jobs", b"name: j\ntasks: [{name: t, run: 'true'}]")["id"])
            except OSError:
                return None

        job = wait_for("the gateway takes a job", submitted, 30)
        wait_for("it is completed", lambda: _ask(f"{url}/jobs/{job}")["state"] == "COMPLETED", 30)


NATS_CA, NATS_CERT, NATS_KEY, NATS_URL, DSN = (
    "WINDLASS_NATS_CA", "WINDLASS_NATS_CERT", "WINDLASS_NATS_KEY", "WINDLASS_NATS_URL", "WINDLASS_POSTGRES_DSN",
)  # fmt: skip
UNTRUSTED = "certificate of NATS at 127.0.0.1:"
REFUSALS = [
    # service, what is set (`{ca}` and so on are what the test has), what is said, and the remedy
    ("worker", {NATS_CA: "{other}"}, UNTRUSTED, "WINDLASS_NATS_CA is to name"),
    ("worker", {NATS_CA: ""}, UNTRUSTED, "WINDLASS_NATS_CA is to name"),
    ("gateway", {NATS_CA: "{other}"}, UNTRUSTED, "WINDLASS_NATS_CA is to name"),
    ("worker", {NATS_URL: "{other_name}"}, "certificate of NATS at localhost:", "a host that it was made for"),
    ("worker", {NATS_CA: "{ca}.missing"}, "WINDLASS_NATS_CA is", "No such file"),
    ("worker", {NATS_CA: "{key}"}, "WINDLASS_NATS_CA is", "it is a file of certificates"),
    ("worker", {NATS_CERT: "", NATS_KEY: ""}, "does not agree to TLS", "WINDLASS_NATS_CERT and WINDLASS_NATS_KEY"),
    ("worker", {NATS_KEY: "{ca}"}, "WINDLASS_NATS_CERT is", "they are a certificate and its private key"),
    ("worker", {NATS_URL: "nats://x:y@127.0.0.1:4"}, "not TLS", "write tls:// in WINDLASS_NATS_URL"),
    ("worker", {NATS_URL: "{other_password}"}, "refuses user 'worker'", "password in WINDLASS_NATS_URL"),
    ("coordinator", {DSN: "{dsn}sslmode=verify-full&sslrootcert={other}"}, "verify failed", "sslrootcert is to name"),
    ("gateway", {DSN: "{dsn}sslmode=verify-full&sslrootcert={other}"}, "verify failed", "sslrootcert is to name"),
    ("gateway", {DSN: "{dsn}sslmode=verify-ca&sslrootcert={ca}.missing"}, "root certificate", "sslrootcert is to name"),
    ("coordinator", {DSN: "{dsn}sslmode=disable"}, "no encryption", "sslmode=verify-full in WINDLASS_POSTGRES_DSN"),
    ("coordinator", {DSN: "{dsn}password=guess"}, "password", "check user and password in WINDLASS_POSTGRES_DSN"),
]


@pytest.mark.parametrize(("service", "changed", "what", "remedy"), REFUSALS)
def test_who_does_not_trust_says_so_in_one_line_with_the_remedy(
    secured: Secured, service: str, changed: dict[str, str], what: str, remedy: str
) -> None:
    usual = secured.environ(service)
    has = {
        "ca": secured.ca,
        "other": secured.other,
        "key": secured.key,
        "dsn": secured.dsn(service, ""),
        "other_name": usual[NATS_URL].replace(NAME, "localhost"),
        "other_password": usual[NATS_URL].replace(f"{service}:", f"{service}:not"),
    }
    options = {"worker": ("--runtime", "shell"), "gateway": ("--port", "0"), "coordinator": ()}[service]
    asked = windlass(service, *options, environ={**usual, **{name: value.format(**has) for name, value in changed.items()}})
    assert (asked.returncode, "Traceback" in asked.stderr + asked.stdout) == (1, False)
    (last,) = asked.stderr.splitlines()
    assert last.startswith(f"windlass {service}: ")
    assert what in last
    assert remedy in last


def test_no_password_is_sent_to_a_server_without_tls(servers: object, tmp_path: Path) -> None:
    plain = EmbeddedNats(tmp_path)
    try:
        url = plain.url_of("worker").replace("nats://", "tls://")
        asked = windlass("worker", "--runtime", "shell", environ={"WINDLASS_NATS_URL": url})
        assert asked.returncode == 1
        assert "offers no TLS; give the server a certificate, or write nats:// in WINDLASS_NATS_URL" in asked.stderr
    finally:
        plain.stop()
