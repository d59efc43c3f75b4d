package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/coppice-go/coppice/engines/streams"
)

func (s *sink) Write(ctx context.Context, d streams.Delivery) error {
	var at streams.Cursor
	err := s.locked(func() (err error) {
		if err := s.fence(); err != nil {
			return err
		}
		at, err = s.cursor()
		return err
	})

	for err == nil {
		at, err = s.unit(ctx, d, at)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}

	return err
}

// fence returns an error if a newer claim was made. It is called under the lock.
func (s *sink) fence() error {
	epoch, err := s.epoch()
	if err == nil && epoch != s.opening.Epoch {
		err = streams.Fail(streams.Fenced, fmt.Errorf("epoch %d writes, this is epoch %d", epoch, s.opening.Epoch))
	}
	return err
}

// unit writes the next unit and returns the cursor after it. io.EOF means that there is none.
func (s *sink) unit(ctx context.Context, d streams.Delivery, at streams.Cursor) (streams.Cursor, error) {
	f, err := os.CreateTemp(s.dir, "new-")
	if err != nil {
		return at, classify(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	first, err := json.Marshal(head{s.opening.Definition, s.opening.Epoch})
	if err != nil {
		return at, err
	}
	if _, err := f.Write(append(first, '\n')); err != nil {
		return at, classify(err)
	}

	var line []byte
	for {
		e, err := d.Next(ctx)
		if err != nil {
			return at, err
		}
		skip := !at.Empty() && e.Position.Compare(at.Position) <= 0
		if !skip {
			line = append(streams.AppendJSON(line[:0], e), '\n')
			if _, err := f.Write(line); err != nil {
				return at, classify(err)
			}
		}
		d.Credit(e.Size())

		end, ok := e.Body.(*streams.End)
		switch {
		case !ok:
			continue
		case skip:
			return at, nil
		case (end.After == nil) != at.Empty() || end.After != nil && *end.After != at.Position:
			return at, streams.Fail(streams.BadOrder, fmt.Errorf("height %s does not rest on %s", e.Position, at))
		}

		next := s.opening.Cursor(e)
		err = s.locked(func() error {
			if err := s.fence(); err != nil {
				return err
			}
			return s.keep(f, name(e.Position))
		})
		if err != nil {
			return at, err
		}

		return next, nil
	}
}
