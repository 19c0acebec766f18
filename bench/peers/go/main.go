// The same with Go's net/http and mattn/go-sqlite3: go-peer PORT DATA UPSTREAM POLL_SECONDS
//
// With merlind's promises: a 202 is durable, one task for one (user, name, photo), nothing is forgotten by a restart,
// trouble upstream is backed off from. tasks.go drives them, this file speaks HTTP.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"mime/multipart"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	maxPhoto = 10 << 20
	maxName  = 200
	maxWait  = 60
)

var wait = regexp.MustCompile(`^\s*wait\s*=\s*([0-9]{1,9})\s*$`)

// badForm is a form that can't be taken.
type badForm struct {
	status int
	why    string
}

func (e badForm) Error() string { return e.why }

func main() {
	poll, err := strconv.ParseFloat(os.Args[4], 64)
	if err != nil {
		log.Fatal(err)
	}
	tasks, err := openTasks(os.Args[2], os.Args[3], time.Duration(poll*float64(time.Second)))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		code := http.StatusMethodNotAllowed
		switch r.Method {
		case http.MethodGet:
			code = tell(tasks, w, r)
		case http.MethodPost:
			code = submit(tasks, w, r)
		default:
			w.WriteHeader(code)
		}
		log.Printf("%s %s %d", r.RemoteAddr, r.Method, code)
	})
	server := &http.Server{Addr: "127.0.0.1:" + os.Args[1], ReadHeaderTimeout: 20 * time.Second, IdleTimeout: time.Minute}
	log.Fatal(server.ListenAndServe())
}

func submit(tasks *tasks, w http.ResponseWriter, r *http.Request) int {
	name, photo, err := readForm(r)
	if err != nil {
		return problem(w, err)
	}
	found, err := tasks.submit(name, photo)
	if err != nil {
		return problem(w, err)
	}
	if seconds, ok := preferredWait(r); ok && !found.over() {
		if held, err := tasks.hold(r.Context(), found.id, seconds); err == nil && held != nil {
			found = held
		}
	}
	if found.state == ready {
		return answer(w, http.StatusOK, map[string]any{"status": "ready", "task": found.id, "result": found.result})
	}
	w.Header().Set("Location", fmt.Sprintf("/?task_id=%d", found.id))
	w.Header().Set("Retry-After", "2")
	return answer(w, http.StatusAccepted, map[string]any{"status": "received", "task": found.id, "result": nil})
}

func tell(tasks *tasks, w http.ResponseWriter, r *http.Request) int {
	id, err := strconv.ParseInt(r.URL.Query().Get("task_id"), 10, 64)
	if err != nil {
		return problem(w, badForm{http.StatusBadRequest, "ask with one task_id"})
	}
	var found *task
	if seconds, ok := preferredWait(r); ok {
		found, err = tasks.hold(r.Context(), id, seconds)
	} else {
		found, err = tasks.find(id)
	}
	switch {
	case err != nil:
		return problem(w, err)
	case found == nil:
		return answer(w, http.StatusNotFound, map[string]any{"status": "not_found", "result": nil})
	case found.state == ready:
		return answer(w, http.StatusOK, map[string]any{"status": "ready", "result": found.result})
	case found.state == failed:
		return answer(w, http.StatusOK, map[string]any{"status": "failed", "result": nil})
	}
	w.Header().Set("Retry-After", "2")
	return answer(w, http.StatusAccepted, map[string]any{"status": "wait", "result": nil})
}

func answer(w http.ResponseWriter, code int, body any) int {
	data, err := json.Marshal(body)
	if err != nil {
		return problem(w, err)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(data)))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	w.Write(data)
	return code
}

func problem(w http.ResponseWriter, err error) int {
	var bad badForm
	if errors.As(err, &bad) {
		return answer(w, bad.status, map[string]any{"title": bad.why, "status": bad.status})
	}
	log.Print(err)
	return answer(w, http.StatusInternalServerError, map[string]any{"title": "the server failed", "status": 500})
}

func preferredWait(r *http.Request) (time.Duration, bool) {
	found := wait.FindStringSubmatch(r.Header.Get("Prefer"))
	if found == nil {
		return 0, false
	}
	seconds, _ := strconv.Atoi(found[1])
	if seconds > maxWait {
		seconds = maxWait
	}
	return time.Duration(seconds) * time.Second, true
}

func readForm(r *http.Request) (string, []byte, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return "", nil, badForm{http.StatusUnsupportedMediaType, "send a form"}
	}
	fields := map[string][]byte{}
	for {
		part, err := form.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", nil, badForm{http.StatusBadRequest, "the form is malformed"}
		}
		if name := part.FormName(); name != "name" && name != "photo" {
			return "", nil, badForm{http.StatusBadRequest, "the form may have the fields name and photo alone"}
		}
		if fields[part.FormName()], err = readPart(part, r.ContentLength); err != nil {
			return "", nil, err
		}
	}
	name, photo := strings.TrimSpace(string(fields["name"])), fields["photo"]
	if name == "" || len(name) > 4*maxName {
		return "", nil, badForm{http.StatusUnprocessableEntity, "the name is empty or too long"}
	}
	if !isImage(photo) {
		return "", nil, badForm{http.StatusUnprocessableEntity, "the photo is not an image"}
	}
	return name, photo, nil
}

// readPart reads a part into memory that was made for it at once, where the request says how long it is.
func readPart(part *multipart.Part, length int64) ([]byte, error) {
	size := int64(512)
	if part.FormName() == "photo" && length > 0 && length <= maxPhoto+65536 {
		size = length
	}
	data := make([]byte, 0, size)
	for {
		n, err := part.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if len(data) > maxPhoto {
			return nil, badForm{http.StatusRequestEntityTooLarge, "the photo is too large"}
		}
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return nil, badForm{http.StatusBadRequest, "the form is cut short"}
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

func isImage(photo []byte) bool {
	switch kind := http.DetectContentType(photo); kind {
	case "image/jpeg", "image/png", "image/gif", "image/webp":
		return true
	default:
		return len(photo) > 12 && string(photo[4:8]) == "ftyp"
	}
}
