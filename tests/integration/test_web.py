# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import asyncio
import re
import urllib.parse
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer, unused_port
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from kwatch.app import open_lab
from kwatch.config.files import Secrets
from kwatch.config.load import load
from kwatch.daemon import serve
from kwatch.store import live
from kwatch.store.blobs import Blobs
from kwatch.store.database import Database, connect
from kwatch.web.health import Liveness
from kwatch.web.server import make_application
from tests.integration.web_history import (
    BLOBS,
    CONFIG,
    NOW,
    PANIC,
    History,
    fill,
)
from tests.unit.test_config import GOOD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientResponse

LIVENESS = Liveness(
    started_at=NOW - 90_000,
    beat=NOW - 4,
    periods={"tree:linux-next": 600.0, "tree:mainline": 600.0, "list:llvm": 300.0},
)

LISTINGS = ("status", "trees", "revisions", "trials", "regressions", "mails", "queue", "hosts",
            "series")  # fmt: skip

Client = TestClient[web.Request, web.Application]


def keep_blobs(path: Path, database: Database) -> Blobs:
    return Blobs(path / "blobs", database=database, budget=1 << 30, clock=lambda: NOW)


@asynccontextmanager
async def serving(
    path: Path, *, liveness: Liveness = LIVENESS, now: float = NOW
) -> AsyncIterator[tuple[Client, History]]:
    database = await Database.open(path / "history.db")
    try:
        blobs = keep_blobs(path, database)
        for blob in BLOBS:
            await blobs.put(blob)
        history = await database.write(fill)
        application = make_application(
            database=database,
            liveness=lambda: liveness,
            clock=lambda: now,
            read_tail=blobs.tail,
            read_live=partial(live.tail, path / "scratch", limit=1000),
            name="example lab",
            host_names=["lab.example.org"],
        )
        async with TestClient(TestServer(application)) as client:
            yield client, history
    finally:
        await database.close()


@asynccontextmanager
async def serving_nothing(path: Path) -> AsyncIterator[Client]:
    database = await Database.open(path / "history.db")
    try:
        application = make_application(
            database=database,
            liveness=lambda: LIVENESS,
            clock=lambda: NOW,
            read_tail=keep_blobs(path, database).tail,
            read_live=partial(live.tail, path / "scratch", limit=1000),
            name="new lab",
        )
        async with TestClient(TestServer(application)) as client:
            yield client
    finally:
        await database.close()


async def page(client: Client, path: str, status: int = 200) -> str:
    response = await client.get(path)
    text = await response.text()
    assert response.status == status, (path, text)
    assert response.content_type == "text/html"
    return text


async def document(client: Client, path: str, status: int = 200) -> dict[str, object]:
    response = await client.get(path)
    found = await response.json()
    assert response.status == status, (path, found)
    assert isinstance(found, dict)
    return found


def visible(text: str) -> str:
    """What a reader of the page sees, with the white space of a browser."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


# Pages


async def test_the_front_page_shows_the_lab_in_one_look(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, history):
        text = await page(client, "/")
        shown = visible(text)
        assert "alive" in shown
        assert shown.rindex("next-20261120 5 h ago") < shown.index("next-20261119 2 days ago")
        assert "bisect, 5 suspects left" in shown
        assert f"series {history.culprit[:12]} likely" in shown
        assert "seen in next-20261119 (x86_64, x86_64-smp)" in shown
        assert "+0.6 41.3" in shown
        assert "running build next-20261120 x86_64 without the series build1" in shown
        assert "queued checkout" in shown
        assert "the git server does not answer" in shown
        assert "build2 unreachable no route to host" in shown
        assert "not accepted" in shown
        assert "accepted by lab operator" in shown
        assert "held 1" in shown
        assert "boot: given up: no KVM on any host" in shown
        assert "<script" not in text.lower()


async def test_an_empty_lab_has_a_front_page(tmp_path: Path) -> None:
    async with serving_nothing(tmp_path) as client:
        shown = visible(await page(client, "/"))
        assert "No tree was looked at yet." in shown
        assert "tree:linux-next has never been looked at" in shown
        for path in LISTINGS:
            await document(client, f"/api/v1/{path}")
        assert (await client.get("/metrics")).status == 200


async def test_a_regression_shows_timeline_proof_and_mails(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, history):
        shown = visible(await page(client, f"/regression/{history.found}"))
        assert "found" in shown
        assert history.culprit in shown
        assert "culprit" in shown
        assert "grade likely seen in next-20261119 : x86_64, x86_64-smp present in" in shown
        assert "linux-next, x86_64-smp: since next-20261119" in shown
        assert "likely, but a clean build of its parent does not pass" in shown
        assert "rebuild 1" in shown
        assert "opened" in shown
        assert "confirmed" in shown
        assert "The kernel no longer boots since" in shown
        assert "250 ok queued" in shown
        # The text of a mail is decoded: it went out as quoted-printable.
        assert "J\u00f6rg" in shown
        going = visible(await page(client, f"/regression/{history.going}"))
        assert "the trials that are under way" in going


async def test_a_tag_shows_all_its_trials_and_patches(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        shown = visible(await page(client, "/revision/linux-next/next-20261120"))
        assert "repeat 1" in shown
        assert "applied llvm-cov: add coverage" in shown
        assert "conflict x86: enable coverage" in shown


async def test_a_tag_with_a_slash_has_a_page(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        assert "for-next/core" in await page(client, "/revision/linux-next/for-next/core")
        assert "for-next/core" in await page(client, "/revision/linux-next/for-next%2Fcore")
        compared = visible(await page(client, "/revision/linux-next/for-next/core"))
        assert re.search(
            r"Compared with.*v6\.18-rc6\s+[0-9a-f]{12}\s+not tried", compared, re.DOTALL
        )
        found = await document(client, "/api/v1/revision/linux-next/for-next/core")
        (baseline,) = found["commits"][0]["baselines"]  # type: ignore[index]
        assert (baseline["name"], baseline["outcome"]) == ("v6.18-rc6", None)


async def test_a_boot_shows_its_console_and_coverage(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, history):
        text = await page(client, f"/boot/{history.boot}")
        assert "&lt;script&gt;alert(&#34;console&#34;)&lt;/script&gt;" in text
        assert "\x1b" not in text
        assert "beginning of the console" not in text
        assert "end of the console" in text
        assert "fs 2" in visible(text)
        gone = await page(client, f"/boot/{history.lost_boot}")
        assert "removed to stay within [blobs] budget" in gone


async def test_a_boot_that_runs_shows_its_console_so_far(tmp_path: Path) -> None:
    key = "ab" * 32
    async with serving(tmp_path) as (client, _):
        await page(client, f"/boot/{key}", status=404)
        console = live.console(tmp_path / "scratch", key)
        console.parent.mkdir(parents=True)
        console.write_bytes(b"")
        assert "No output yet." in await page(client, f"/boot/{key}")
        console.write_bytes(b"x" * 2000 + b"\n<b>booting</b> \x1b[2J\n")
        text = await page(client, f"/boot/{key}")
        assert "&lt;b&gt;booting&lt;/b&gt;" in text
        assert "\x1b" not in text
        assert 'http-equiv="refresh"' in text
        assert len(text) < 2500


async def test_a_boot_is_a_document_when_it_is_over(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, history):
        found = await document(client, f"/api/v1/boot/{history.boot}")
        assert found["key"] == history.boot
        assert found["host"] == "boot1"
        assert found["trials"]
        missing = await document(client, f"/api/v1/boot/{'ab' * 32}", status=404)
        assert "no boot with this key" in str(missing["error"])


async def test_a_build_shows_what_kconfig_dropped_and_its_log(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, history):
        shown = visible(await page(client, f"/build/{history.build}"))
        assert "CONFIG_MCDC: asked for y, got n" in shown
        assert "clang version 22" in shown
        assert "LD vmlinux" in shown


async def test_hostile_words_come_out_as_text(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, history):
        paths = ["/", f"/regression/{history.found}", f"/regression/{history.going}",
                 "/revision/linux-next/next-20261120", f"/boot/{history.boot}",
                 f"/build/{history.build}"]  # fmt: skip
        for path in paths:
            text = await page(client, path)
            assert "<img" not in text
            assert "<script" not in text
            assert "\u202e" not in text
        assert "&lt;img src=x onerror=alert(1)&gt;" in await page(client, "/")
        listed = await document(client, "/api/v1/regressions")
        titles = [one["finding"]["title"] for one in listed["regressions"]]  # type: ignore[attr-defined]
        assert PANIC.title in titles


# Health


async def test_health_follows_the_beat(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        assert (await document(client, "/healthz"))["alive"] is True
    async with serving(tmp_path / "2", liveness=replace(LIVENESS, beat=NOW - 61)) as (client, _):
        assert (await document(client, "/healthz", 503))["alive"] is False
        assert "the worker is stalled" in await page(client, "/")


async def test_readiness_tells_each_source_that_is_not_followed(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        found = await document(client, "/readyz", 503)
        assert found["reasons"] == ["tree:mainline: the git server does not answer"]
    fine = replace(LIVENESS, periods={"tree:linux-next": 600.0})
    async with serving(tmp_path / "2", liveness=fine) as (client, _):
        assert await document(client, "/readyz") == {"ready": True, "reasons": []}
    async with serving(tmp_path / "3", liveness=fine, now=NOW + 7200) as (client, _):
        late = await document(client, "/readyz", 503)
        assert "its period is 600 s" in str(late["reasons"])


async def test_readiness_sees_a_foreign_schema(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "history.db")
    try:
        await database.write(
            lambda tx: tx.execute(
                "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
                " VALUES ('kwatch', 'm999_future', '')"
            ).fetchone()
        )
        application = make_application(
            database=database,
            liveness=lambda: replace(LIVENESS, periods={}),
            clock=lambda: NOW,
            read_tail=keep_blobs(tmp_path, database).tail,
            read_live=partial(live.tail, tmp_path / "scratch", limit=1000),
            name="lab",
        )
        async with TestClient(TestServer(application)) as client:
            assert "schema" in str(await document(client, "/readyz", 503))
    finally:
        await database.close()


async def test_a_broken_database_is_told_and_not_a_defect(tmp_path: Path) -> None:
    async with serving_nothing(tmp_path) as client:
        (tmp_path / "history.db").unlink()
        found = await document(client, "/readyz", 503)
        assert "database" in str(found["reasons"])
        await page(client, "/", 503)
        await document(client, "/api/v1/trees", 503)
        await document(client, "/healthz")


# Metrics


async def test_metrics_hold_what_monitoring_needs(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        response = await client.get("/metrics", headers={"Accept": "text/plain;version=0.0.4"})
        text = await response.text()
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert samples["kwatch_worker_beat_age_seconds", ()] == 4
        assert samples["kwatch_queue_jobs", (("kind", "build"), ("state", "running"))] == 1
        assert samples["kwatch_jobs_failed_total", (("kind", "boot"),)] == 1
        assert samples["kwatch_trials_total", (("outcome", "infra"),)] == 1
        labels = (("metric", "mcdc"), ("tree", "linux-next"), ("variant", "x86_64"))
        assert samples["kwatch_coverage_percent", labels] == pytest.approx(12.5)
        assert samples["kwatch_mails", (("state", "held"),)] == 1
        looked = samples["kwatch_source_last_look_age_seconds", (("source", "list:llvm"),)]
        assert looked == 60
        assert samples["kwatch_host_up", (("host", "build2"),)] == 0
        assert not re.search(r"[0-9a-f]{12}", text)


async def test_metrics_come_in_the_format_that_is_asked_for(tmp_path: Path) -> None:
    async with serving_nothing(tmp_path) as client:
        response = await client.get(
            "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
        )
        assert response.content_type == "application/openmetrics-text"
        assert (await response.text()).endswith("# EOF\n")
        for accept in ("application/openmetrics-text;version=x", "text/plain;version=\u00e9", "*",
                       "application/openmetrics-text;version=9;escaping=allow-utf-8"):  # fmt: skip
            response = await client.get("/metrics", headers={"Accept": accept})
            assert response.status == 200


async def test_the_config_of_a_build_can_be_fetched(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, history):
        response = await client.get(f"/build/{history.build}/config")
        assert (response.status, response.content_type) == (200, "text/plain")
        assert await response.read() == CONFIG
        response = await client.get(f"/build/{'0' * 64}/config")
        assert response.status == 404


# The API


async def test_every_endpoint_answers(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, history):
        status = await document(client, "/api/v1/status")
        assert status["name"] == "example lab"
        assert status["mails"] == {
            "held": 1, "ready": 0, "sending": 0, "sent": 1, "failed": 0, "rejected": 0
        }  # fmt: skip
        trees = await document(client, "/api/v1/trees")
        assert [tree["name"] for tree in trees["trees"]] == ["linux-next", "mainline"]  # type: ignore[attr-defined]
        newest = await document(client, "/api/v1/revisions?tree=linux-next&limit=1")
        assert [one["tag"] for one in newest["revisions"]] == ["for-next/core"]  # type: ignore[attr-defined]
        tag = await document(client, "/api/v1/revision/linux-next/next-20261120")
        assert tag["commits"][0]["checkouts"][0]["patches"][1]["fate"] == "conflict"  # type: ignore[index]
        failing = await document(client, "/api/v1/trials?tree=linux-next&outcome=fail")
        assert failing["trials"]
        assert {one["outcome"] for one in failing["trials"]} == {"fail"}  # type: ignore[attr-defined]
        found = await document(client, f"/api/v1/regression/{history.found}")
        assert found["blame"] == "series"
        assert found["commits"] == [history.culprit]
        assert found["grade"] == "likely"
        assert found["seen_in"] == [
            {"tree": "linux-next", "tag": "next-20261119", "variants": ["x86_64", "x86_64-smp"]}
        ]
        answers = [(one["grade"], one["doubts"]) for one in found["investigations"]]  # type: ignore[attr-defined]
        doubt = "a clean build of its parent does not pass"
        assert answers == [("likely", [doubt]), (None, [])]
        listed = await document(client, "/api/v1/regressions")
        assert [one["grade"] for one in listed["regressions"]] == [None, "likely"]  # type: ignore[attr-defined]
        assert all(one["seen_in"] for one in listed["regressions"])  # type: ignore[attr-defined]
        assert "The kernel no longer boots" in found["mails"][0]["text"]  # type: ignore[index]
        held = await document(client, "/api/v1/mails?state=held")
        assert len(held["mails"]) == 1  # type: ignore[arg-type]
        number = held["mails"][0]["id"]  # type: ignore[index]
        assert (await document(client, f"/api/v1/mail/{number}"))["text"]
        queue = await document(client, "/api/v1/queue")
        assert queue["jobs"][0]["host"] == "build1"  # type: ignore[index]
        hosts = await document(client, "/api/v1/hosts")
        assert hosts["hosts"][1]["health"] == "unreachable"  # type: ignore[index]
        series = await document(client, "/api/v1/series")
        assert [one["accepted_by"] for one in series["series"]] == [None, "lab operator"]  # type: ignore[attr-defined]


async def test_the_documentation_names_every_field(tmp_path: Path) -> None:
    described = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()
    async with serving(tmp_path) as (client, history):
        for path in ("status", "trees", "revisions", "revision/linux-next/next-20261120",
                     "trials", f"regression/{history.found}", "mails", "mail/1", "queue",
                     "hosts", "series"):  # fmt: skip
            found = await document(client, f"/api/v1/{path}")
            for name in names_of(found):
                assert f"`{name}`" in described, (path, name)


def names_of(value: object) -> set[str]:
    if isinstance(value, list):
        return {name for item in value for name in names_of(item)}
    if isinstance(value, dict):
        inner = {name for key, item in value.items() if key != "detail" for name in names_of(item)}
        return inner | set(value)
    return set()


# What strangers send


async def test_wrong_questions_get_a_clean_answer(tmp_path: Path) -> None:
    key = "0" * 64
    async with serving(tmp_path) as (client, _):
        for path in ("/nothing", "/regression/999", "/regression/x", "/regression/-1", "/boot/x",
                     f"/boot/{key}", f"/build/{key}", "/revision/linux-next/none",
                     "/static/../server.py", "/static/%2e%2e/server.py"):  # fmt: skip
            assert (await client.get(path)).status == 404, path
            assert "<h1>404</h1>" in await page(client, path, 404)
        for path in ("/api/v1/nothing", "/api/v1/regression/999", "/api/v1/mail/999",
                     "/api/v1/mail/99999999999999999999", "/api/v1/revision/x/y"):  # fmt: skip
            assert "error" in await document(client, path, 404)
        for query in ("limit=0", "limit=501", "limit=-1", "limit=x", "limit=1&limit=2", "foo=1",
                      "limit=%D9%A3", "state=sad", "tree=%00", "tree=" + "x" * 300):  # fmt: skip
            found = await document(client, f"/api/v1/regressions?{query}", 400)
            assert found["error"]
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            response = await client.request(method, "/")
            assert response.status == 405
            assert response.headers["Allow"] == "GET, HEAD"
            response = await client.request(method, "/api/v1/status")
            assert response.status == 405
            assert "error" in await response.json()


def assert_hardened(response: ClientResponse) -> None:
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Server"] == "kwatch"


async def test_every_answer_carries_the_headers(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        for path in ("/", "/static/style.css", "/nothing", "/healthz", "/metrics",
                     "/api/v1/queue", "/api/v1/queue?limit=0"):  # fmt: skip
            assert_hardened(await client.get(path))
            assert_hardened(await client.head(path))


async def test_a_foreign_host_name_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        for host in ("evil.example.com", "evil.example.com:80", "127.0.0.1.evil.example.com", "",
                     "localhost.evil.example.com", "[::1", "lab.example.org@evil"):  # fmt: skip
            response = await client.get("/api/v1/mails", headers={"Host": host})
            assert response.status == 421, host
            assert_hardened(response)
        for host in ("localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "[::1]",
                     "192.0.2.7", "lab.example.org", "Lab.Example.org:443"):  # fmt: skip
            response = await client.get("/api/v1/mails", headers={"Host": host})
            assert response.status == 200, host


async def test_host_names_of_the_configuration_are_accepted(tmp_path: Path) -> None:
    """[web] host_names and the host of [web] url, through the daemon's own server."""
    port = unused_port()
    text = GOOD + (
        f'[web]\nport = {port}\nhost_names = ["Proxy.example.org"]\n'
        'url = "https://lab.example.org/kwatch/"\n'
    )
    for name in ("busybox", "ssh-key", "password", "coverage.config", "config.toml"):
        (tmp_path / name).write_text(text if name == "config.toml" else "CONFIG_A=y\n")
    found = load(tmp_path / "config.toml", secrets=Secrets.UNUSED)
    async with open_lab(replace(found, hosts=())) as lab, serve(lab, NOW), ClientSession() as http:
        for host, status in (
            ("proxy.example.org", 200), ("proxy.example.org:443", 200), ("lab.example.org", 200),
            ("127.0.0.1", 200), ("evil.example.com", 421),
        ):  # fmt: skip
            url = f"http://127.0.0.1:{port}/api/v1/hosts"
            async with http.get(url, headers={"Host": host}) as response:
                assert response.status == status, host
                if status == 421:
                    assert "host_names in [web]" in (await response.json())["error"]


async def test_no_request_writes_to_the_database(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, history):
        with closing(connect(tmp_path / "history.db", read_only=True)) as connection:
            before = connection.execute("PRAGMA data_version").fetchone()[0]
            paths = ["/", "/healthz", "/readyz", "/metrics", "/static/style.css",
                     f"/boot/{history.boot}", f"/boot/{history.lost_boot}",
                     f"/build/{history.build}", f"/build/{history.build}/config",
                     f"/regression/{history.found}", "/revision/linux-next/next-20261120",
                     "/api/v1/revision/linux-next/next-20261120", "/api/v1/mail/1",
                     f"/api/v1/boot/{history.boot}", f"/api/v1/regression/{history.going}",
                     *(f"/api/v1/{name}" for name in LISTINGS)]  # fmt: skip
            for path in paths:
                for method in ("GET", "HEAD"):
                    await (await client.request(method, path)).read()
                    assert connection.execute("PRAGMA data_version").fetchone()[0] == before, path
        # None is left out.
        served = {one.get_info().get("pattern") for one in client.app.router.resources()}
        assert all(any(one.fullmatch(path) for path in paths) for one in served if one)
        fixed = {one.canonical for one in client.app.router.resources() if "path" in one.get_info()}
        assert fixed <= set(paths)


async def test_a_page_that_the_client_has_is_not_sent_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as (client, _):
        for path in ("/", "/static/style.css", "/api/v1/hosts"):
            first = await client.get(path)
            tag = first.headers["ETag"]
            again = await client.get(path, headers={"If-None-Match": f'"other", {tag}'})
            assert again.status == 304
            assert await again.read() == b""
            assert again.headers["ETag"] == tag
            assert_hardened(again)
            changed = await client.get(path, headers={"If-None-Match": '"other"'})
            assert changed.status == 200
            odd = await client.get(path, headers={"If-None-Match": 'W/"", ,,"'})
            assert odd.status == 200
        assert "ETag" not in (await client.get("/healthz")).headers


NASTY = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["../../etc/passwd", "%00", "%ff%fe", "' OR 1=1 --", "{{7*7}}", "\U0001f600",
                     "x" * 3000, "next-20261120", "linux-next", "1e9", "0x10", "\u0663"]),
)  # fmt: skip


def test_hostile_paths_and_queries_never_break_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """One server, hundreds of questions: nothing is a defect of ours."""
    folder = tmp_path_factory.mktemp("web")
    templates = ["/{}", "/regression/{}", "/revision/{}/{}", "/boot/{}", "/build/{}", "/static/{}",
                 "/api/v1/{}", "/api/v1/regression/{}", "/api/v1/revision/{}/{}",
                 "/api/v1/mail/{}", "/api/v1/trials?tree={}", "/api/v1/trials?{}={}",
                 "/api/v1/revisions?limit={}", "/api/v1/mails?thread={}", "/metrics?{}",
                 "/api/v1/trials?commit={}&variant={}&outcome=fail"]  # fmt: skip

    with asyncio.Runner() as runner:
        context = serving(folder)
        client, _ = runner.run(context.__aenter__())

        @settings(
            max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(
            template=st.sampled_from(templates), parts=st.tuples(NASTY, NASTY), quoted=st.booleans()
        )
        def ask(template: str, parts: tuple[str, str], *, quoted: bool) -> None:
            words = [urllib.parse.quote(part, safe="" if quoted else "/%'&=;") for part in parts]
            status = runner.run(raw_status(client, template.format(*words)))
            assert status in {200, 400, 404}, (template, parts)

        try:
            ask()
        finally:
            runner.run(context.__aexit__(None, None, None))


async def raw_status(client: Client, target: str) -> int:
    """Ask byte for byte: a client library would clean the path first."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ", 2)[1])
