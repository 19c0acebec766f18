-- From nothing to version 1 of merlind's database. A script runs within a transaction, so it has none of its own.
-- since and due are seconds of service time, which counts only while merlind runs; finished is seconds since the epoch.
-- trouble is why the last request to the upstream failed (Task.last_error), finished is Task.finished_at.
CREATE TABLE task (
    id INTEGER PRIMARY KEY,
    user TEXT NOT NULL,
    name TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('upload', 'poll', 'ready', 'failed')),
    since REAL NOT NULL,
    due REAL NOT NULL,
    retry_id TEXT,
    attempts INTEGER NOT NULL,
    trouble TEXT,
    result REAL,
    error_code TEXT,
    error_detail TEXT,
    finished REAL,
    CHECK ((state IN ('ready', 'failed')) = (finished IS NOT NULL)),
    CHECK ((state = 'ready') = (result IS NOT NULL))
);

-- One task for each user, name and photo. The digest comes first because it tells rows apart soonest.
CREATE UNIQUE INDEX task_same ON task (sha256, user, name);

-- Unfinished tasks, in the order in which they are due; with the other columns, this index alone answers a count.
CREATE INDEX task_due ON task (due, id, since, size, state) WHERE finished IS NULL;

-- Finished tasks, in the order in which they expire.
CREATE INDEX task_finished ON task (finished, state) WHERE finished IS NOT NULL;

-- The service time at the last commit.
CREATE TABLE clock (now REAL NOT NULL);
INSERT INTO clock VALUES (0.0);
