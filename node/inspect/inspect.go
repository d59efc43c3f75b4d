package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Bounds of one part.
const (
	MaxBytes = 16 << 20
	MaxTime  = 10 * time.Second
)

// Errors of Inspect.
var (
	// ErrNone: there is no part with that name.
	ErrNone = errors.New("no such part")

	// ErrBusy: another part is being made.
	ErrBusy = errors.New("another part is being made, try again")
)

// Part is a part of the report.
type Part struct {
	Name string // a file name, such as "heap.pb.gz"

	// Make writes the part to w, which takes any number of bytes and keeps the first MaxBytes. It
	// returns when ctx ends.
	Make func(ctx context.Context, w io.Writer) error
}

// Result is a part that was made.
type Result struct {
	Data    []byte
	LeftOut uint64 // bytes after Data that are left out
}

// Inspector makes parts. It is safe for concurrent use.
type Inspector struct {
	parts  []Part
	apart  []Part // that Names leaves out
	making sync.Mutex
}

// New returns the Inspector of parts.
func New(parts ...Part) *Inspector { return &Inspector{parts: parts} }

// WithApart adds parts that are made only for those who ask for them by name, and returns i.
func (i *Inspector) WithApart(parts ...Part) *Inspector {
	i.apart = append(i.apart, parts...)
	return i
}

// Names returns the names of the parts of a report.
func (i *Inspector) Names() []string {
	names := make([]string, len(i.parts))
	for k, p := range i.parts {
		names[k] = p.Name
	}
	return names
}

// Inspect makes the part with that name. Errors are ErrNone, ErrBusy, and those of the part.
func (i *Inspector) Inspect(ctx context.Context, name string) (Result, error) {
	for _, p := range slices.Concat(i.parts, i.apart) {
		if p.Name == name {
			return i.make(ctx, p)
		}
	}
	return Result{}, fmt.Errorf("%w: %q", ErrNone, name)
}

func (i *Inspector) make(ctx context.Context, p Part) (Result, error) {
	if !i.making.TryLock() {
		return Result{}, ErrBusy
	}
	defer i.making.Unlock()

	ctx, cancel := context.WithTimeoutCause(ctx, MaxTime, fmt.Errorf("%w: %s took more than %v",
		context.DeadlineExceeded, p.Name, MaxTime))
	defer cancel()

	var b bounded
	if err := p.Make(ctx, &b); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Result{}, fmt.Errorf("%s: %w", p.Name, err)
	}

	return Result{Data: b.kept.Bytes(), LeftOut: b.leftOut}, nil
}

// bounded keeps the first MaxBytes that are written to it, and counts the rest.
type bounded struct {
	kept    bytes.Buffer
	leftOut uint64
}

// Write never fails.
func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), MaxBytes-b.kept.Len())
	b.kept.Write(p[:n])
	b.leftOut += uint64(len(p) - n)
	return len(p), nil
}
