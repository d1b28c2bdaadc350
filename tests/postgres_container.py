"""Runs PostgreSQL in a container until standard input ends; prints its URL. See postgres_server."""

from __future__ import annotations

import sys

from testcontainers.community.postgres import PostgresContainer

IMAGE = "postgres:18"


def main() -> None:
    server = PostgresContainer(IMAGE, driver=None)
    server.with_command("postgres -c fsync=off -c full_page_writes=off -c max_connections=200")
    with server:
        print(server.get_connection_url(), flush=True)  # noqa: T201
        sys.stdin.read()


if __name__ == "__main__":
    main()
