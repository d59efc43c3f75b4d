package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Sink publishes a report. The same report may come several times, from several processes at once,
// because a keeper can die after it has published and before it has said so. A sink must publish it
// once. If it returns an error, it is called again until the round has ended.
type Sink func(ctx context.Context, r Report) error

// Print returns a sink that prints each report as a line of JSON. It cannot know what another
// process has printed, so a reader must ignore a number that it has seen.
func Print(out io.Writer) Sink {
	return func(_ context.Context, r Report) error {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s\n", line)
		return err
	}
}

// ErrPublished is the error for a report whose number was published with another content.
var ErrPublished = errors.New("another report of that number was published")

// Files returns a sink that writes each report to a file of its own in dir, such as 000001.json. A
// file appears whole or not at all, and is never replaced. Several processes may share dir.
func Files(dir string) Sink {
	return func(_ context.Context, r Report) error {
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		text = append(text, '\n')
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}

		made, err := writeTemp(dir, text)
		if made != "" {
			defer os.Remove(made)
		}
		if err != nil {
			return err
		}

		// Unlike a rename, a link fails if the file is there.
		path := filepath.Join(dir, fmt.Sprintf("%06d.json", r.Number))
		err = os.Link(made, path)
		if errors.Is(err, fs.ErrExist) {
			err = sameFile(path, text)
		}
		if err != nil {
			return err
		}

		return syncDir(dir) // also if the process that made the file has died before this
	}
}

// writeTemp writes text to a new file in dir, durably, and returns its path.
func writeTemp(dir string, text []byte) (path string, err error) {
	f, err := os.CreateTemp(dir, ".report")
	if err != nil {
		return "", err
	}

	_, err = f.Write(text)
	return f.Name(), errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
}

// sameFile returns ErrPublished unless the file has that content.
func sameFile(path string, text []byte) error {
	is, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(is, text) {
		err = fmt.Errorf("%w: %s has %s, want %s", ErrPublished, path, bytes.TrimSpace(is), bytes.TrimSpace(text))
	}
	return err
}

// syncDir makes the names of the files in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
