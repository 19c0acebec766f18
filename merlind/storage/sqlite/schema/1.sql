-- Version 1 of merlind's database.
-- Times: since and due are seconds of service time (time during which merlind ran); finished is the wall clock's epoch.
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

-- One task for one user, name and photo. The digest comes first because it tells rows apart soonest.
CREATE UNIQUE INDEX task_same ON task (sha256, user, name);

-- What is unfinished, in due order; the further columns let the counts be read from the index alone.
CREATE INDEX task_due ON task (due, id, since, size, state) WHERE finished IS NULL;

-- What is over, in the order in which retention ends it.
CREATE INDEX task_finished ON task (finished, state) WHERE finished IS NOT NULL;

-- The service time at the last commit.
CREATE TABLE clock (now REAL NOT NULL);
INSERT INTO clock VALUES (0.0);
