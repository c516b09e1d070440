# SPDX-License-Identifier: GPL-2.0-or-later
"""The schema, as the list of changes that made it. Append only: a shipped one never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlite_utils import Migrations

if TYPE_CHECKING:
    from sqlite_utils import Database

MIGRATIONS = Migrations("kwatch")


@MIGRATIONS()
def m001_spine(database: Database) -> None:
    """Everything from a tag to a mail."""
    for statement in SPINE.split(";\n\n"):
        database.execute(statement)


@MIGRATIONS()
def m002_reader(database: Database) -> None:
    """Which version of the reader the finding of a build or boot is of."""
    for table in ("build", "boot"):
        database.execute(f"ALTER TABLE {table} ADD COLUMN reader INTEGER NOT NULL DEFAULT 1")


@MIGRATIONS()
def m003_host_facts(database: Database) -> None:
    """What is in use on a host, and which accelerators were proven there."""
    for column in ("facts", "proven"):
        database.execute(f"ALTER TABLE host ADD COLUMN {column} TEXT")


# Times are seconds since the epoch. Columns named like a noun of the domain hold its JSON.
SPINE = """
CREATE TABLE revision (
    id INTEGER PRIMARY KEY,
    tree TEXT NOT NULL,
    tag TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    seen_at REAL NOT NULL,
    UNIQUE (tree, tag, commit_id)
) STRICT;

CREATE TABLE posting_mail (
    message_id TEXT PRIMARY KEY,
    received_at REAL NOT NULL,
    sent_at REAL,
    kind TEXT NOT NULL,
    part INTEGER NOT NULL,
    total INTEGER NOT NULL,
    version INTEGER NOT NULL,
    author TEXT NOT NULL,
    address TEXT NOT NULL,
    subject TEXT NOT NULL,
    title TEXT NOT NULL,
    prefixes TEXT NOT NULL,
    in_reply_to TEXT,
    refs TEXT NOT NULL,
    has_diff INTEGER NOT NULL,
    new_files TEXT NOT NULL,
    links TEXT NOT NULL,
    change_id TEXT,
    base_commit TEXT,
    digest TEXT NOT NULL,
    patch TEXT
) STRICT;

CREATE INDEX posting_mail_root ON posting_mail (received_at, title, message_id) WHERE part <= 1;

CREATE TABLE posting_raw (
    message_id TEXT PRIMARY KEY REFERENCES posting_mail (message_id) ON DELETE CASCADE,
    raw BLOB NOT NULL
) STRICT;

CREATE TABLE posting_list (
    message_id TEXT NOT NULL REFERENCES posting_mail (message_id) ON DELETE CASCADE,
    list TEXT NOT NULL,
    PRIMARY KEY (message_id, list)
) STRICT, WITHOUT ROWID;

CREATE TABLE posting_key (
    key TEXT NOT NULL,
    message_id TEXT NOT NULL REFERENCES posting_mail (message_id) ON DELETE CASCADE,
    PRIMARY KEY (key, message_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX posting_key_mail ON posting_key (message_id);

CREATE TABLE series (
    digest TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    title TEXT NOT NULL,
    origin TEXT NOT NULL,
    patches INTEGER NOT NULL,
    accepted_by TEXT,
    posted_at REAL NOT NULL,
    mbox BLOB NOT NULL
) STRICT;

CREATE TABLE variant (
    digest TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    variant TEXT NOT NULL
) STRICT;

CREATE TABLE checkout (
    key TEXT PRIMARY KEY,
    result TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;

CREATE TABLE build (
    key TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    milestone INTEGER NOT NULL,
    took REAL NOT NULL,
    result TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;

CREATE TABLE boot (
    key TEXT PRIMARY KEY,
    build_key TEXT NOT NULL REFERENCES build (key),
    host TEXT NOT NULL,
    milestone INTEGER NOT NULL,
    took REAL NOT NULL,
    result TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;

CREATE TABLE collection (
    key TEXT PRIMARY KEY REFERENCES boot (key),
    finding TEXT,
    totals TEXT,
    took REAL NOT NULL,
    at REAL NOT NULL
) STRICT;

CREATE TABLE coverage (
    boot_key TEXT NOT NULL REFERENCES boot (key),
    origin TEXT NOT NULL,
    path TEXT NOT NULL,
    lines_covered INTEGER NOT NULL, lines_total INTEGER NOT NULL,
    functions_covered INTEGER NOT NULL, functions_total INTEGER NOT NULL,
    branches_covered INTEGER NOT NULL, branches_total INTEGER NOT NULL,
    mcdc_covered INTEGER NOT NULL, mcdc_total INTEGER NOT NULL,
    PRIMARY KEY (boot_key, origin, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE observation (
    id INTEGER PRIMARY KEY,
    commit_id TEXT NOT NULL,
    variant TEXT NOT NULL REFERENCES variant (digest),
    rebuild INTEGER NOT NULL,
    repeat INTEGER NOT NULL,
    host TEXT NOT NULL,
    waits_kind TEXT,
    waits_key TEXT,
    checkout_key TEXT,
    build_key TEXT,
    boot_key TEXT,
    outcome TEXT,
    milestone INTEGER NOT NULL DEFAULT 0,
    fingerprint TEXT,
    finding TEXT,
    created_at REAL NOT NULL,
    settled_at REAL,
    UNIQUE (commit_id, variant, rebuild, repeat, host)
) STRICT;

CREATE INDEX observation_waits ON observation (waits_kind, waits_key) WHERE outcome IS NULL;

CREATE TABLE want (
    observation_id INTEGER NOT NULL REFERENCES observation (id),
    asker_kind TEXT NOT NULL,
    asker_key TEXT NOT NULL,
    PRIMARY KEY (observation_id, asker_kind, asker_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX want_asker ON want (asker_kind, asker_key);

CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    run_after REAL NOT NULL,
    lease_until REAL,
    handle TEXT,
    error TEXT,
    created_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL
) STRICT;

CREATE UNIQUE INDEX job_queued ON job (kind, key) WHERE state = 'queued';

CREATE INDEX job_alive ON job (state, kind, run_after) WHERE state IN ('queued', 'running');

CREATE TABLE regression (
    id INTEGER PRIMARY KEY,
    tree TEXT NOT NULL,
    variant TEXT NOT NULL REFERENCES variant (digest),
    variant_name TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    milestone INTEGER NOT NULL,
    finding TEXT NOT NULL,
    good TEXT NOT NULL,
    bad TEXT NOT NULL,
    state TEXT NOT NULL,
    opened_at REAL NOT NULL
) STRICT;

CREATE TABLE regression_event (
    id INTEGER PRIMARY KEY,
    regression_id INTEGER NOT NULL REFERENCES regression (id),
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    detail TEXT NOT NULL,
    reported_at REAL
) STRICT;

CREATE TABLE investigation (
    id INTEGER PRIMARY KEY,
    regression_id INTEGER NOT NULL REFERENCES regression (id),
    goal TEXT NOT NULL,
    fixed TEXT,
    phase TEXT NOT NULL,
    remaining INTEGER,
    answer TEXT,
    opened_at REAL NOT NULL,
    ended_at REAL
) STRICT;

CREATE INDEX investigation_regression ON investigation (regression_id);

CREATE TABLE mail (
    id INTEGER PRIMARY KEY,
    message_id TEXT NOT NULL UNIQUE,
    thread TEXT NOT NULL,
    event_id INTEGER UNIQUE REFERENCES regression_event (id),
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    envelope_from TEXT NOT NULL,
    message BLOB NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    created_at REAL NOT NULL,
    sent_at REAL
) STRICT;

CREATE INDEX mail_thread ON mail (thread);

CREATE INDEX regression_event_regression ON regression_event (regression_id);

CREATE TABLE recipient (
    mail_id INTEGER NOT NULL REFERENCES mail (id),
    address TEXT NOT NULL,
    state TEXT NOT NULL,
    answer TEXT,
    PRIMARY KEY (mail_id, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE command (
    id INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    verb TEXT NOT NULL,
    arguments TEXT NOT NULL,
    state TEXT NOT NULL,
    answer TEXT,
    at REAL NOT NULL
) STRICT;

CREATE TABLE cursor (
    source TEXT PRIMARY KEY,
    value TEXT,
    looked_at REAL,
    error TEXT
) STRICT;

CREATE TABLE host (
    name TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    reason TEXT,
    checked_at REAL NOT NULL
) STRICT;

CREATE TABLE environment (
    id TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    seen_at REAL NOT NULL
) STRICT;

CREATE TABLE blob (
    digest TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    created_at REAL NOT NULL,
    used_at REAL NOT NULL
) STRICT;

CREATE TABLE blob_ref (
    owner_kind TEXT NOT NULL,
    owner_key TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (owner_kind, owner_key, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX blob_ref_digest ON blob_ref (digest)
"""
