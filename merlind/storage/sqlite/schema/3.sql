-- From version 2 to 3.
-- kept_since is the service time at which a task finished: retention counts from there. For what finished before this
-- version, it counts from now.
ALTER TABLE task ADD COLUMN kept_since REAL;
UPDATE task SET kept_since = (SELECT now FROM clock) WHERE finished IS NOT NULL;
DROP INDEX task_finished;

-- Finished tasks, in the order in which they expire.
CREATE INDEX task_kept ON task (kept_since, state) WHERE finished IS NOT NULL;

-- What tells this database from any other, so that it is used with its own photos alone (storage/pairing.py).
CREATE TABLE identity (id TEXT NOT NULL);
INSERT INTO identity VALUES (lower(hex(randomblob(16))));
