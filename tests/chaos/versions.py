"""Two versions at once: a schema that is newer or older than a process, a migration that dies."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from antom_payments.errors import SchemaOutdated
from antom_payments.store.schema import _MIGRATIONS, revisions
from chaos.process import NotInjected, Process
from chaos.scene import Fault, Scene

NEXT = "9999"
_NEXT_MIGRATION = '''"""The next version's: it only adds."""

from alembic import op

revision = "{next}"
down_revision = "{last}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE payments ADD COLUMN chaos_note text")
    op.execute("CREATE TABLE chaos_notes (note text)")
'''
_BACK = (
    "ALTER TABLE payments DROP COLUMN IF EXISTS chaos_note",
    "DROP TABLE IF EXISTS chaos_notes",
    f"UPDATE alembic_version SET version_num = '{revisions()[-1]}'",
)


def faults() -> list[Fault]:
    """Each with traffic flowing."""
    return [
        Fault("version", "newer schema, same code, under traffic, then rolled back", newer),
        Fault("version", "kill -9 in the middle of a migration", dies),
        Fault("version", "older schema, same code: a server refuses to start", older),
    ]


@contextlib.asynccontextmanager
async def newer(scene: Scene) -> AsyncIterator[None]:
    """What runs goes on, and what is started serves the newer schema too."""
    process = _migration(scene)
    await process.launch()
    if code := await process.ended():
        raise NotInjected(f"the migration ended with {code}: {process.last_words()}")
    one = scene.random.choice(scene.town.servers)
    one.signal(signal.SIGTERM)
    code = await one.ended()
    await one.start()
    assert code == 0, f"{one.name} ended with {code} when told to go: {one.last_words()}"
    await scene.hold()
    yield
    await scene.town.cluster.execute(*_BACK)


@contextlib.asynccontextmanager
async def dies(scene: Scene) -> AsyncIterator[None]:
    process = _migration(scene)
    await process.launch(point="in the middle of a migration")
    if (code := await process.ended()) != -signal.SIGKILL:
        await scene.town.cluster.execute(*_BACK)
        raise NotInjected(f"the migration ended with {code}: {process.last_words()}")
    yield


@contextlib.asynccontextmanager
async def older(scene: Scene) -> AsyncIterator[None]:
    """Servers at work go on; one that is started refuses, and starts once it is migrated."""
    before, last = revisions()[-2:]
    version = "UPDATE alembic_version SET version_num = '{}'".format
    await scene.town.cluster.execute(version(before))
    refusal = str(SchemaOutdated(before, last))
    one = scene.random.choice(scene.town.servers)
    try:
        await one.kill()
        await one.launch(is_to_end=True)
        code, words = await one.ended(), one.last_words()
        yield
    finally:
        await scene.town.cluster.execute(version(last))
        await one.start()
    assert code not in {0, -signal.SIGKILL}, f"it served an older schema: {code}"
    assert refusal in words, f"it ended for another reason: {words}"


def _migration(scene: Scene) -> Process:
    """A process with the next version's migrations."""
    town = scene.town
    folder = town.folder / "next-version"
    if not folder.exists():
        shutil.copytree(_MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        text = _NEXT_MIGRATION.format(next=NEXT, last=revisions()[-1])
        Path(folder / "versions" / f"{NEXT}_chaos.py").write_text(text)
    settings = town.settings_of("server-0")
    return town.process("migration", "migrate", settings=settings, migrations=str(folder))
