"""The schema, as the steps that lead to it. A step is never changed once released; a new one is added.

`PRAGMA user_version` holds the number of the last step that was taken.
"""

import sqlite3

from bhatti.errors import CorruptData

MIGRATIONS: tuple[str, ...] = (
    # 1: sandboxes, the journal of orders, events
    """
    CREATE TABLE sandboxes (
        id           TEXT PRIMARY KEY,
        name         TEXT NOT NULL,
        owner        TEXT NOT NULL DEFAULT '',
        status       TEXT NOT NULL,
        engine       TEXT NOT NULL,
        spec         BLOB NOT NULL,
        facts        BLOB NOT NULL,
        cause        BLOB,
        created_at   TEXT NOT NULL,
        stopped_at   TEXT,
        destroyed_at TEXT
    ) STRICT;
    CREATE UNIQUE INDEX sandboxes_name ON sandboxes (owner, name) WHERE status <> 'destroyed';

    CREATE TABLE intents (
        id         INTEGER PRIMARY KEY AUTOINCREMENT,
        kind       TEXT NOT NULL,
        sandbox_id TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
        begun_at   TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX intents_sandbox ON intents (sandbox_id);

    CREATE TABLE events (
        id         INTEGER PRIMARY KEY AUTOINCREMENT,
        at         TEXT NOT NULL,
        kind       TEXT NOT NULL,
        sandbox_id TEXT,
        detail     TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX events_sandbox ON events (sandbox_id, id);
    """,
    # 2: events say whose they are and what the sandbox was called, and go by age
    """
    ALTER TABLE events ADD COLUMN sandbox TEXT;
    ALTER TABLE events ADD COLUMN owner TEXT NOT NULL DEFAULT '';
    UPDATE events SET
        sandbox = (SELECT name FROM sandboxes WHERE sandboxes.id = events.sandbox_id),
        owner = coalesce((SELECT owner FROM sandboxes WHERE sandboxes.id = events.sandbox_id), '');
    CREATE INDEX events_at ON events (at);
    """,
    # 3: volumes
    """
    CREATE TABLE volumes (
        name       TEXT NOT NULL,
        owner      TEXT NOT NULL DEFAULT '',
        engine     TEXT NOT NULL,
        size_mib   INTEGER NOT NULL,
        status     TEXT NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (owner, name)
    ) STRICT;
    """,
    # 4: users; NULL is a cap that is none
    """
    CREATE TABLE users (
        id                    TEXT PRIMARY KEY,
        name                  TEXT NOT NULL UNIQUE,
        key_hash              TEXT NOT NULL UNIQUE,
        created_at            TEXT NOT NULL,
        max_sandboxes         INTEGER,
        max_cpus              INTEGER,
        max_memory_mb         INTEGER,
        max_volume_storage_mb INTEGER,
        max_images            INTEGER,
        max_snapshots         INTEGER
    ) STRICT;
    """,
    # 5: what can be changed of a sandbox at any time
    """
    ALTER TABLE sandboxes ADD COLUMN preferences BLOB NOT NULL DEFAULT x'7b7d';
    """,
    # 6: published ports
    """
    CREATE TABLE publications (
        id         TEXT PRIMARY KEY,
        sandbox_id TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
        port       INTEGER NOT NULL,
        alias      TEXT NOT NULL UNIQUE,
        created_at TEXT NOT NULL,
        UNIQUE (sandbox_id, port)
    ) STRICT;
    ALTER TABLE users ADD COLUMN max_published INTEGER DEFAULT 10;
    """,
    # 7: long work
    """
    CREATE TABLE tasks (
        id       TEXT PRIMARY KEY,
        owner    TEXT NOT NULL DEFAULT '',
        kind     TEXT NOT NULL,
        subject  TEXT NOT NULL,
        status   TEXT NOT NULL,
        begun_at TEXT NOT NULL,
        ended_at TEXT,
        error    BLOB,
        image    TEXT
    ) STRICT;
    """,
    # 8: secrets, sealed; templates; what a sandbox was made from
    """
    CREATE TABLE secrets (
        owner      TEXT NOT NULL,
        name       TEXT NOT NULL,
        sealed     BLOB NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        PRIMARY KEY (owner, name)
    ) STRICT;

    CREATE TABLE templates (
        id         TEXT PRIMARY KEY,
        owner      TEXT NOT NULL,
        name       TEXT NOT NULL,
        outfit     BLOB NOT NULL,
        created_at TEXT NOT NULL,
        UNIQUE (owner, name)
    ) STRICT;

    ALTER TABLE sandboxes ADD COLUMN origin BLOB NOT NULL DEFAULT x'7b7d';
    """,
)


def migrate(connection: sqlite3.Connection, steps: tuple[str, ...] = MIGRATIONS) -> int:
    """Take the steps that are missing, each in a transaction; return how many.

    Raises `CorruptData` (code `store-too-new`) if a later version of bhatti has written the file.
    """
    at = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if at > len(steps):
        raise CorruptData(
            f"the store has schema {at}, this bhatti knows up to {len(steps)}",
            hint="install the version of bhatti that wrote it, or a newer one",
            code="store-too-new",
        )
    for number, step in enumerate(steps[at:], start=at + 1):
        # executescript would commit what is open; the script's own BEGIN and COMMIT keep the step whole.
        connection.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version={number}; COMMIT;")
    return len(steps) - at
