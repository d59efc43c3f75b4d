package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/coppice-go/coppice/engines/streams"
)

// Factory returns the factory of the sink. A program that embeds a node registers it; main serves
// it as a plugin.
func Factory() streams.Factory {
	return streams.Factory{Kind: "blockfiles", Version: "1", Ack: streams.Durable,
		Limits: streams.Limits{Payload: 1 << 20}, New: newSink}
}

func newSink(d streams.Definition, _ streams.Secrets) (streams.Sink, error) {
	var keys struct {
		Dir string `toml:"dir"`
	}
	if err := d.Decode(&keys); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(keys.Dir) {
		return nil, d.Bad("dir", fmt.Sprintf("is %q, want an absolute path", keys.Dir))
	}

	return &sink{dir: keys.Dir}, nil
}

// sink keeps a unit in a file, whose first line tells of the writer and whose other lines are the
// events in JSON. A unit is there once its file has its name; the newest file is the cursor. The
// file "epoch" has the newest claim. Whoever changes anything holds the lock of the file "lock".
type sink struct {
	dir     string
	opening streams.Opening
}

// head is the first line of a unit's file.
type head struct {
	Definition string `json:"definition"`
	Epoch      uint64 `json:"epoch"`
}

func (s *sink) path(name string) string { return filepath.Join(s.dir, name) }

// name is the name of a unit's file. Names sort as positions do.
func name(p streams.Position) string { return fmt.Sprintf("%020d-%020d.jsonl", p.Period, p.Height) }

// locked runs f under the lock.
func (s *sink) locked(f func() error) error {
	lock, err := os.OpenFile(s.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return classify(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return classify(err)
	}

	return f()
}

func (s *sink) Open(_ context.Context, o streams.Opening) (c streams.Cursor, err error) {
	s.opening = o
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return c, classify(err)
	}

	err = s.locked(func() error {
		epoch, err := s.epoch()
		if err != nil {
			return err
		}
		if epoch >= o.Epoch {
			return streams.Fail(streams.Fenced, fmt.Errorf("epoch %d writes, this is epoch %d", epoch, o.Epoch))
		}
		if err := s.put("epoch", fmt.Appendf(nil, "%d", o.Epoch)); err != nil {
			return err
		}
		c, err = s.cursor()
		return err
	})

	return c, err
}

// epoch returns the newest claim.
func (s *sink) epoch() (n uint64, err error) {
	b, err := os.ReadFile(s.path("epoch"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, classify(err)
	}
	if _, err := fmt.Sscan(string(b), &n); err != nil {
		return 0, streams.Fail(streams.Misconfigured, fmt.Errorf("%s: %w", s.path("epoch"), err))
	}
	return n, nil
}

// put replaces a file as a whole, durably.
func (s *sink) put(name string, content []byte) error {
	f, err := os.CreateTemp(s.dir, "new-")
	if err != nil {
		return classify(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return classify(err)
	}
	return s.keep(f, name)
}

// keep syncs a file and gives it its name.
func (s *sink) keep(f *os.File, name string) error {
	if err := f.Sync(); err != nil {
		return classify(err)
	}
	if err := os.Rename(f.Name(), s.path(name)); err != nil {
		return classify(err)
	}
	return s.syncDir()
}

func (s *sink) syncDir() error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return classify(err)
	}
	defer dir.Close()
	return classify(dir.Sync())
}

// units returns the names of the units' files, oldest first.
func (s *sink) units() ([]string, error) {
	names, err := filepath.Glob(s.path("*.jsonl"))
	slices.Sort(names)
	return names, classify(err)
}

// cursor returns where the sink stands.
func (s *sink) cursor() (streams.Cursor, error) {
	epoch, err := s.epoch()
	if err != nil {
		return streams.Cursor{}, err
	}
	names, err := s.units()
	if err != nil || len(names) == 0 {
		return streams.Cursor{Epoch: epoch}, err
	}

	var c streams.Cursor
	err = each(names[len(names)-1], func(h head, e streams.Event) error {
		if _, ok := e.Body.(*streams.End); ok {
			c = streams.Opening{Definition: h.Definition}.Cursor(e)
		}
		return nil
	})
	c.Epoch = epoch

	return c, err
}

// each passes the events of a unit's file to f.
func each(path string, f func(head, streams.Event) error) error {
	file, err := os.Open(path)
	if err != nil {
		return classify(err)
	}
	defer file.Close()

	var h head
	r := bufio.NewReader(file)
	for first := true; ; first = false {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		} else if err != nil {
			return streams.Fail(streams.Misconfigured, fmt.Errorf("%s ends within a line: %w", path, err))
		}

		if first {
			err = json.Unmarshal(line, &h)
		} else {
			var e streams.Event
			if e, err = streams.ParseJSON(line[:len(line)-1]); err == nil {
				err = f(h, e)
			}
		}
		if err != nil {
			return err
		}
	}
}

func (s *sink) Observe(context.Context) (c streams.Cursor, err error) {
	if _, err := os.Stat(s.dir); errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	err = s.locked(func() error {
		c, err = s.cursor()
		return err
	})
	return c, err
}

func (s *sink) Read(_ context.Context, from, to streams.Position, f func(streams.Event) error) error {
	names, err := s.units()
	if err != nil {
		return err
	}
	for _, path := range names {
		if base := filepath.Base(path); base < name(from) || base > name(to) {
			continue
		}
		if err := each(path, func(_ head, e streams.Event) error { return f(e) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *sink) Rewind(_ context.Context, to *streams.Position) (c streams.Cursor, err error) {
	err = s.locked(func() error {
		names, err := s.units()
		if err != nil {
			return err
		}
		for _, path := range slices.Backward(names) { // the newest first: what is left is whole
			if to != nil && filepath.Base(path) <= name(*to) {
				break
			}
			if err := os.Remove(path); err != nil {
				return classify(err)
			}
		}
		if err := s.syncDir(); err != nil {
			return err
		}
		c, err = s.cursor()
		return err
	})
	return c, err
}

func (s *sink) Close(context.Context) error { return nil }

// classify gives an error of the file system its class.
func classify(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return streams.Fail(streams.Full, err)
	case errors.Is(err, os.ErrPermission):
		return streams.Fail(streams.Unauthorised, err)
	}
	return streams.Fail(streams.Unreachable, err)
}
