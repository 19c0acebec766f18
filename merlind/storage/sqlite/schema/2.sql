-- From version 1 to 2: what a task has cost so far, and whose fault its end was.
-- failed_at is seconds of service time. The columns are explained at merlind.core.task.Task, error_source at TaskError.
ALTER TABLE task ADD COLUMN failed_at REAL;
ALTER TABLE task ADD COLUMN blamed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN unknown_handle INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN uploads INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN reuploads INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN error_source TEXT;
UPDATE task SET error_source = iif(error_code = 'photo_lost', 'merlind', 'upstream') WHERE error_code IS NOT NULL;

-- A task with a retry_id was uploaded once, at least.
UPDATE task SET uploads = 1 WHERE state = 'poll';
