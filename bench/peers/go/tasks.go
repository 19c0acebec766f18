package main

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

const (
	upload = "upload"
	poll   = "poll"
	ready  = "ready"
	failed = "failed"

	maxConcurrency = 32
	maxAnswer      = 65536
	longestPause   = 300 * time.Second

	schema = `
CREATE TABLE IF NOT EXISTS task (
    id INTEGER PRIMARY KEY,
    user TEXT NOT NULL,
    name TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    state TEXT NOT NULL,
    retry_id TEXT,
    result REAL,
    error TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS task_same ON task (sha256, user, name);
CREATE INDEX IF NOT EXISTS task_unfinished ON task (id) WHERE state IN ('upload', 'poll');`
)

// task is one as the database has it.
type task struct {
	id     int64
	state  string
	result float64
}

func (t *task) over() bool { return t.state == ready || t.state == failed }

// tasks are all of them: the database, the photos, and those under way.
type tasks struct {
	url    string
	poll   time.Duration
	photos string
	folder *os.File
	client *http.Client
	slots  chan struct{}

	writer, reader                     *sql.DB
	insert, update, byID, bySame, over *sql.Stmt

	mutex   sync.Mutex
	waiters map[int64][]chan struct{}
}

// openTasks opens everything, and resumes what is unfinished.
func openTasks(data, url string, poll time.Duration) (*tasks, error) {
	t := &tasks{
		url:     url,
		poll:    poll,
		photos:  filepath.Join(data, "photos"),
		slots:   make(chan struct{}, maxConcurrency),
		waiters: map[int64][]chan struct{}{},
		client: &http.Client{
			Timeout:       30 * time.Second,
			Transport:     &http.Transport{MaxIdleConnsPerHost: maxConcurrency, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if err := os.MkdirAll(t.photos, 0o700); err != nil {
		return nil, err
	}
	var err error
	if t.folder, err = os.Open(t.photos); err != nil {
		return nil, err
	}
	return t, t.openDatabase(filepath.Join(data, "tasks.sqlite"))
}

func (t *tasks) openDatabase(path string) error {
	source := "file:" + path + "?_journal_mode=WAL&_synchronous=FULL&_cache_size=-65536&_busy_timeout=5000&_txlock=immediate"
	for _, db := range []**sql.DB{&t.writer, &t.reader} {
		opened, err := sql.Open("sqlite3", source)
		if err != nil {
			return err
		}
		opened.SetMaxOpenConns(1)
		*db = opened
	}
	if _, err := t.writer.Exec(schema); err != nil {
		return err
	}
	for _, statement := range []struct {
		to   **sql.Stmt
		db   *sql.DB
		text string
	}{
		{&t.insert, t.writer, "INSERT INTO task (id, user, name, sha256, state) VALUES (?, '', ?, ?, 'upload') " +
			"ON CONFLICT (sha256, user, name) DO NOTHING"},
		{&t.update, t.writer, "UPDATE task SET state = 'poll', retry_id = ? WHERE id = ?"},
		{&t.over, t.writer, "UPDATE task SET state = ?, result = ?, retry_id = NULL WHERE id = ?"},
		{&t.byID, t.reader, "SELECT id, state, coalesce(result, 0) FROM task WHERE id = ?"},
		{&t.bySame, t.reader, "SELECT id, state, coalesce(result, 0) FROM task WHERE sha256 = ? AND user = '' AND name = ?"},
	} {
		prepared, err := statement.db.Prepare(statement.text)
		if err != nil {
			return err
		}
		*statement.to = prepared
	}
	rows, err := t.reader.Query("SELECT id, name, coalesce(retry_id, '') FROM task WHERE state IN ('upload', 'poll')")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var name, retryID string
		if err := rows.Scan(&id, &name, &retryID); err != nil {
			return err
		}
		go t.run(id, name, retryID)
	}
	return rows.Err()
}

// What clients ask for.

// submit finds or makes the task of a name and a photo; when it returns, both are durable.
func (t *tasks) submit(name string, photo []byte) (*task, error) {
	id, err := newID()
	if err != nil {
		return nil, err
	}
	digest, err := t.storePhoto(id, photo)
	if err != nil {
		return nil, err
	}
	done, err := t.insert.Exec(id, name, digest)
	if err != nil {
		return nil, err
	}
	if made, err := done.RowsAffected(); err != nil {
		return nil, err
	} else if made == 1 {
		go t.run(id, name, "")
		return &task{id: id, state: upload}, nil
	}
	t.removePhoto(id)
	return one(t.bySame.QueryRow(digest, name))
}

// find tells how a task stands; nil if there is none.
func (t *tasks) find(id int64) (*task, error) { return one(t.byID.QueryRow(id)) }

// hold tells how a task stands when it is over, or so long from now.
func (t *tasks) hold(ctx context.Context, id int64, patience time.Duration) (*task, error) {
	over := make(chan struct{})
	t.mutex.Lock()
	t.waiters[id] = append(t.waiters[id], over)
	t.mutex.Unlock()
	defer t.unwatch(id, over)
	if found, err := t.find(id); err != nil || found == nil || found.over() {
		return found, err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	case <-ctx.Done():
	}
	return t.find(id)
}

func (t *tasks) unwatch(id int64, over chan struct{}) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	var left []chan struct{}
	for _, waiter := range t.waiters[id] {
		if waiter != over {
			left = append(left, waiter)
		}
	}
	if left == nil {
		delete(t.waiters, id)
	} else {
		t.waiters[id] = left
	}
}

func one(row *sql.Row) (*task, error) {
	var found task
	switch err := row.Scan(&found.id, &found.state, &found.result); err {
	case nil:
		return &found, nil
	case sql.ErrNoRows:
		return nil, nil
	default:
		return nil, err
	}
}

func newID() (int64, error) {
	var drawn [8]byte
	if _, err := crand.Read(drawn[:]); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(drawn[:])>>11 | 1), nil
}

// Photos.

func (t *tasks) photo(id int64) string { return filepath.Join(t.photos, strconv.FormatInt(id, 10)) }

func (t *tasks) storePhoto(id int64, photo []byte) ([]byte, error) {
	digest := sha256.Sum256(photo)
	path := t.photo(id)
	staged := filepath.Join(t.photos, "."+strconv.FormatInt(id, 10))
	file, err := os.OpenFile(staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Write(photo); err != nil {
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, err
	}
	if err := os.Rename(staged, path); err != nil {
		return nil, err
	}
	return digest[:], t.folder.Sync()
}

func (t *tasks) removePhoto(id int64) {
	if err := os.Remove(t.photo(id)); err != nil && !os.IsNotExist(err) {
		log.Print(err)
	}
}

// Driving a task to its end.

func (t *tasks) run(id int64, name, retryID string) {
	failures := 0
	for {
		status, result, given, err := t.exchange(id, name, retryID)
		switch {
		case err != nil:
			failures++
			pause := longestPause
			if failures < 16 {
				pause = t.poll << failures
			}
			if pause > longestPause {
				pause = longestPause
			}
			time.Sleep(time.Duration(rand.Float64() * float64(pause)))
		case status == "ready" || status == "success":
			t.finish(id, ready, &result)
			return
		case status == "wait" && given != "":
			failures = 0
			if given != retryID {
				retryID = given
				if _, err := t.update.Exec(retryID, id); err != nil {
					log.Print(err)
				}
			}
			time.Sleep(t.poll)
		default:
			t.finish(id, failed, nil)
			return
		}
	}
}

func (t *tasks) exchange(id int64, name, retryID string) (status string, result float64, given string, err error) {
	t.slots <- struct{}{}
	defer func() { <-t.slots }()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if retryID != "" {
		form.WriteField("retry_id", retryID)
	} else {
		photo, err := os.ReadFile(t.photo(id))
		if err != nil {
			return "", 0, "", err
		}
		body.Grow(len(photo) + 1024)
		form.WriteField("name", name)
		part, _ := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {`form-data; name="photo"; filename="photo.jpg"`},
			"Content-Type":        {"image/jpeg"},
		})
		part.Write(photo)
	}
	form.Close()
	response, err := t.client.Post(t.url, form.FormDataContentType(), &body)
	if err != nil {
		return "", 0, "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return "", 0, "", err
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return "", 0, "", fmt.Errorf("http %d", response.StatusCode)
	}
	var said struct {
		Status  string
		Result  *float64
		RetryID any `json:"retry_id"`
	}
	if err := json.Unmarshal(data, &said); err != nil {
		return "", 0, "", err
	}
	if said.Result != nil {
		result = *said.Result
	}
	if said.RetryID != nil {
		given = fmt.Sprint(said.RetryID)
	}
	return said.Status, result, given, nil
}

func (t *tasks) finish(id int64, state string, result *float64) {
	if _, err := t.over.Exec(state, result, id); err != nil {
		log.Print(err)
		return
	}
	t.removePhoto(id)
	t.mutex.Lock()
	waiting := t.waiters[id]
	delete(t.waiters, id)
	t.mutex.Unlock()
	for _, over := range waiting {
		close(over)
	}
}
