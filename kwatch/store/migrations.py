# SPDX-License-Identifier: GPL-2.0-or-later
"""The schema, as the list of changes that made it. Append only: a shipped one never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlite_utils import Migrations

if TYPE_CHECKING:
    from sqlite_utils import Database

MIGRATIONS = Migrations("kwatch")


@MIGRATIONS()
def m001_evidence(database: Database) -> None:
    """Everything from a tag to a mail."""
    for statement in SCHEMA.split(";\n\n"):
        database.execute(statement)


# Times are seconds since the epoch. Columns named like a noun of the domain hold its JSON.
SCHEMA = """
CREATE TABLE revision (
    id INTEGER PRIMARY KEY,
    tree TEXT NOT NULL,
    tag TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    seen_at REAL NOT NULL,
    is_baseline INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tree, tag, commit_id)
) STRICT;

CREATE INDEX revision_commit ON revision (commit_id);

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

CREATE TABLE lane (
    id INTEGER PRIMARY KEY,
    tree TEXT NOT NULL,
    variant TEXT NOT NULL,
    UNIQUE (tree, variant)
) STRICT;

CREATE TABLE recipe (
    digest TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    definition TEXT NOT NULL
) STRICT;

CREATE TABLE source (
    key TEXT PRIMARY KEY,
    base TEXT NOT NULL,
    series TEXT,
    definition TEXT NOT NULL
) STRICT;

CREATE TABLE trial (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL REFERENCES source (key),
    build TEXT NOT NULL REFERENCES recipe (digest),
    boot TEXT NOT NULL REFERENCES recipe (digest),
    until INTEGER NOT NULL,
    rebuild INTEGER NOT NULL,
    repeat INTEGER NOT NULL,
    environment TEXT NOT NULL,
    boot_environment TEXT NOT NULL,
    host TEXT NOT NULL,
    waits_kind TEXT,
    waits_key TEXT,
    checkout_key TEXT,
    build_row TEXT,
    boot_key TEXT,
    outcome TEXT,
    milestone INTEGER NOT NULL DEFAULT 0,
    finding INTEGER REFERENCES finding (id),
    tries INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    settled_at REAL,
    UNIQUE (source, build, boot, until, rebuild, repeat, environment, boot_environment, host)
) STRICT;

CREATE INDEX trial_waits ON trial (waits_kind, waits_key) WHERE outcome IS NULL;

CREATE INDEX trial_build ON trial (build_row);

CREATE INDEX trial_boot ON trial (boot_key);

CREATE INDEX trial_infra ON trial (settled_at) WHERE outcome = 'infra';

CREATE INDEX trial_refused ON trial (boot_environment) WHERE outcome = 'refused';

CREATE INDEX source_base ON source (base);

CREATE TABLE planned (
    id INTEGER PRIMARY KEY,
    lane INTEGER NOT NULL REFERENCES lane (id),
    revision INTEGER NOT NULL REFERENCES revision (id),
    trial INTEGER NOT NULL REFERENCES trial (id),
    UNIQUE (lane, revision, trial)
) STRICT;

CREATE INDEX planned_lane ON planned (lane, id);

CREATE INDEX planned_trial ON planned (trial);

CREATE INDEX planned_revision ON planned (revision);

CREATE TABLE baseline_search (
    id INTEGER PRIMARY KEY,
    lane INTEGER NOT NULL REFERENCES lane (id),
    failing INTEGER NOT NULL REFERENCES revision (id),
    at REAL NOT NULL,
    UNIQUE (lane, failing)
) STRICT;

CREATE TABLE baseline (
    search INTEGER NOT NULL REFERENCES baseline_search (id),
    place INTEGER NOT NULL,
    revision INTEGER NOT NULL REFERENCES revision (id),
    trial INTEGER REFERENCES trial (id),
    PRIMARY KEY (search, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX baseline_trial ON baseline (trial);

CREATE TABLE want (
    trial INTEGER NOT NULL REFERENCES trial (id),
    asker_kind TEXT NOT NULL,
    asker_key TEXT NOT NULL,
    PRIMARY KEY (trial, asker_kind, asker_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX want_asker ON want (asker_kind, asker_key);

CREATE TABLE step (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    source TEXT NOT NULL REFERENCES source (key),
    trial TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkout (
    key TEXT PRIMARY KEY,
    result TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;

CREATE TABLE build (
    row TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    environment TEXT NOT NULL,
    recipe TEXT NOT NULL,
    host TEXT NOT NULL,
    milestone INTEGER NOT NULL,
    took REAL NOT NULL,
    result TEXT NOT NULL,
    at REAL NOT NULL,
    reader INTEGER NOT NULL
) STRICT;

CREATE INDEX build_key ON build (key, at);

CREATE INDEX build_recipe ON build (recipe, at);

CREATE INDEX build_reader ON build (reader, at);

CREATE TABLE case_list (
    digest TEXT PRIMARY KEY,
    names BLOB NOT NULL
) STRICT;

CREATE TABLE boot (
    key TEXT PRIMARY KEY,
    inputs TEXT NOT NULL,
    environment TEXT NOT NULL,
    build TEXT NOT NULL REFERENCES build (row),
    recipe TEXT NOT NULL,
    host TEXT NOT NULL,
    accelerator TEXT NOT NULL,
    milestone INTEGER NOT NULL,
    is_good INTEGER NOT NULL,
    took REAL NOT NULL,
    result TEXT NOT NULL,
    cases_run TEXT REFERENCES case_list (digest),
    cases_failed TEXT NOT NULL,
    at REAL NOT NULL,
    reader INTEGER NOT NULL
) STRICT;

CREATE INDEX boot_inputs ON boot (inputs, at);

CREATE INDEX boot_good ON boot (recipe, is_good, at);

CREATE INDEX boot_reader ON boot (reader, at);

CREATE TABLE finding (
    id INTEGER PRIMARY KEY,
    step_kind TEXT NOT NULL,
    step_key TEXT NOT NULL,
    position INTEGER NOT NULL,
    is_cause INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    title TEXT NOT NULL,
    function TEXT,
    file TEXT,
    line INTEGER,
    finding TEXT NOT NULL,
    UNIQUE (step_kind, step_key, position)
) STRICT;

CREATE INDEX finding_fingerprint ON finding (fingerprint);

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

CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    tree TEXT NOT NULL DEFAULT '',
    purpose TEXT NOT NULL DEFAULT 'tag',
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

CREATE INDEX job_ended ON job (ended_at) WHERE ended_at IS NOT NULL;

CREATE INDEX job_dead ON job (kind, key) WHERE state = 'dead';

CREATE TABLE regression (
    id INTEGER PRIMARY KEY,
    lane INTEGER NOT NULL REFERENCES lane (id),
    branch TEXT NOT NULL,
    facet TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    milestone INTEGER NOT NULL,
    finding TEXT NOT NULL,
    state TEXT NOT NULL,
    opened_at REAL NOT NULL
) STRICT;

CREATE INDEX regression_fingerprint ON regression (fingerprint);

CREATE INDEX regression_state ON regression (state);

CREATE TABLE presence (
    regression INTEGER NOT NULL REFERENCES regression (id),
    lane INTEGER NOT NULL REFERENCES lane (id),
    branch TEXT NOT NULL,
    good_revision INTEGER REFERENCES revision (id),
    good_trial INTEGER REFERENCES trial (id),
    bad_revision INTEGER NOT NULL REFERENCES revision (id),
    bad_trial INTEGER NOT NULL REFERENCES trial (id),
    gone_revision INTEGER REFERENCES revision (id),
    PRIMARY KEY (regression, lane, branch)
) STRICT, WITHOUT ROWID;

CREATE INDEX presence_lane ON presence (lane);

CREATE TABLE sighting (
    regression INTEGER NOT NULL REFERENCES regression (id),
    lane INTEGER NOT NULL REFERENCES lane (id),
    revision INTEGER NOT NULL REFERENCES revision (id),
    trial INTEGER NOT NULL REFERENCES trial (id),
    at REAL NOT NULL,
    PRIMARY KEY (regression, lane, revision)
) STRICT, WITHOUT ROWID;

CREATE INDEX sighting_lane ON sighting (lane);

CREATE TABLE regression_event (
    id INTEGER PRIMARY KEY,
    regression_id INTEGER NOT NULL REFERENCES regression (id),
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE INDEX regression_event_regression ON regression_event (regression_id);

CREATE TABLE investigation (
    id INTEGER PRIMARY KEY,
    regression_id INTEGER REFERENCES regression (id),
    goal TEXT NOT NULL,
    question TEXT,
    lane INTEGER REFERENCES lane (id),
    fixed_revision INTEGER REFERENCES revision (id),
    fixed_trial INTEGER REFERENCES trial (id),
    phase TEXT NOT NULL,
    remaining INTEGER,
    seconds_left REAL,
    answer TEXT,
    opened_at REAL NOT NULL,
    ended_at REAL,
    CHECK ((regression_id IS NULL) <> (question IS NULL))
) STRICT;

CREATE INDEX investigation_regression ON investigation (regression_id);

CREATE TABLE investigation_step (
    investigation INTEGER NOT NULL REFERENCES investigation (id),
    position INTEGER NOT NULL,
    trial INTEGER NOT NULL REFERENCES trial (id),
    phase TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (investigation, trial)
) STRICT, WITHOUT ROWID;

CREATE INDEX investigation_step_trial ON investigation_step (trial);

CREATE TABLE thread (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    UNIQUE (kind, owner)
) STRICT;

CREATE TABLE notice (
    id INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL REFERENCES thread (id),
    cause TEXT NOT NULL,
    at REAL NOT NULL,
    handled_at REAL,
    UNIQUE (thread, cause)
) STRICT;

CREATE INDEX notice_pending ON notice (thread) WHERE handled_at IS NULL;

CREATE TABLE mail (
    id INTEGER PRIMARY KEY,
    message_id TEXT NOT NULL UNIQUE,
    thread INTEGER NOT NULL REFERENCES thread (id),
    notice INTEGER NOT NULL UNIQUE REFERENCES notice (id),
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
    checked_at REAL NOT NULL,
    facts TEXT,
    proven TEXT
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

CREATE INDEX blob_ref_digest ON blob_ref (digest);

CREATE TABLE tally (
    what TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (what, kind, name)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER job_tally AFTER UPDATE OF state ON job
WHEN new.ended_at IS NOT NULL AND old.ended_at IS NULL
BEGIN
    INSERT INTO tally VALUES ('job', new.kind, new.state, 1)
        ON CONFLICT DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER trial_tally AFTER UPDATE OF outcome ON trial
WHEN new.outcome IS NOT old.outcome
BEGIN
    INSERT INTO tally SELECT 'trial', '', new.outcome, 1 WHERE new.outcome IS NOT NULL
        ON CONFLICT DO UPDATE SET count = count + 1;
    UPDATE tally SET count = count - 1 WHERE what = 'trial' AND name = old.outcome;
END;

CREATE VIEW result AS
SELECT trial.id, source.base AS commit_id, source.series, trial.build AS build_recipe,
    trial.boot AS boot_recipe, until, rebuild, repeat, environment, boot_environment, host, outcome,
    milestone, finding.kind, finding.title, finding.fingerprint, checkout_key, build_row, boot_key,
    created_at, settled_at
FROM trial JOIN source ON source.key = trial.source
    LEFT JOIN finding ON finding.id = trial.finding
"""
