-- From version 3 to 4.
-- From here on, since, due and failed_at are seconds of task time: service time without the pauses.
-- received is when a task was accepted, for the first time or again, in seconds since the epoch; 0 is unknown.
ALTER TABLE task ADD COLUMN received REAL NOT NULL DEFAULT 0.0;

-- kept_until is the service time until which the photo of a failed task is kept; NULL if it isn't.
ALTER TABLE task ADD COLUMN kept_until REAL;

-- Failed tasks whose photo is kept, in the order in which it expires.
CREATE INDEX task_photo_kept ON task (kept_until, kept_since, size) WHERE kept_until IS NOT NULL;

-- All tasks in the order in which operators list them, and the failed ones among them.
CREATE INDEX task_received ON task (received, id);
CREATE INDEX task_failed ON task (received, id, error_code, kept_until) WHERE state = 'failed';

-- What operators set while merlind runs; the value is JSON.
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
