package dashboard

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coppice-go/coppice/node/inspect"
)

// acting returns a handler of an action. The request must come from the script of a page, in a
// session that may act.
func (d *Dashboard) acting(do http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case d.Mode != Full:
			http.Error(w, "the dashboard is read-only: dashboard = \"full\" in coppice.toml changes that",
				http.StatusForbidden)
		case !d.mayAct(r):
			http.Error(w, "want a session of the admin token: 'coppice dashboard' prints a link to one",
				http.StatusForbidden)
		case r.Header.Get("X-Coppice") == "":
			http.Error(w, "want the header X-Coppice", http.StatusForbidden)
		default:
			r.Body = http.MaxBytesReader(w, r.Body, mostForm)
			do(w, r)
		}
	}
}

// level changes the level of the diagnostics.
func (d *Dashboard) level(w http.ResponseWriter, r *http.Request) {
	level := r.PostFormValue("level")
	before, err := d.Looker.SetLogLevel(level)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "the level was %s, and is %s until the process ends", before, level)
}

// profile answers with the processor time of each child, as text.
func (d *Dashboard) profile(w http.ResponseWriter, r *http.Request) {
	data, _, err := d.Host.Inspect(r.Context(), inspect.CPUProfile)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	shares, err := inspect.SharesOf(data)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = inspect.WriteShares(w, shares) // if the client is gone, it reads nothing
}

// diagnosis answers with an archive about the process: what "coppice debug dump" gets from a node.
// It has no secrets. What cannot be made is named in it.
func (d *Dashboard) diagnosis(w http.ResponseWriter, r *http.Request) {
	if !d.mayAct(r) {
		http.Error(w, "want a session of the admin token, and dashboard = \"full\" in coppice.toml",
			http.StatusForbidden)
		return
	}

	now := time.Now()
	name := "coppice-diagnosis-" + now.UTC().Format("20060102T150405Z")
	w.Header().Set("Content-Type", "application/gzip")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`.tar.gz"`)
	z := gzip.NewWriter(w)
	files := tar.NewWriter(z)

	var secrets []string
	for _, t := range d.Tokens() {
		if t.Secret != "" {
			secrets = append(secrets, t.Secret)
		}
	}
	missing := ""
	add := func(part string, data []byte, err error) {
		if err != nil {
			missing += part + ": " + err.Error() + "\n"
			return
		}
		if !strings.HasSuffix(part, ".pb.gz") { // a profile has names of functions and files only
			data = inspect.Redact(data, secrets...)
		}
		head := &tar.Header{Name: name + "/" + part, Mode: 0o600, Size: int64(len(data)), ModTime: now}
		if files.WriteHeader(head) == nil {
			_, _ = files.Write(data) // if the client is gone, it reads nothing
		}
	}

	add("tree.txt", []byte(d.Looker.Supervisor().Tree().String()), nil)
	for part, v := range map[string]any{"status.json": d.Host.Status(), "condition.json": d.Host.Health(),
		"troubles.json": d.Looker.Troubles(), "engines.json": d.Looker.Engines()} {
		data, err := json.MarshalIndent(v, "", "  ")
		add(part, data, err)
	}
	for _, part := range d.Host.Inspections() {
		data, leftOut, err := d.Host.Inspect(r.Context(), part)
		add(part, data, err)
		if leftOut > 0 {
			missing += fmt.Sprintf("%s: %d bytes at its end\n", part, leftOut)
		}
	}

	add("MISSING", []byte(missing), nil)
	_ = files.Close()
	_ = z.Close()
}
