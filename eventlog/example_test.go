package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/eventlog"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "eventlog")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	l, err := eventlog.Open(dir, eventlog.Options{})
	if err != nil {
		panic(err)
	}
	defer l.Close()

	// After a crash, either both records of one call are there, or neither.
	p := l.Append(ctx,
		eventlog.Record{Kind: 1, Data: []byte("decided")},
		eventlog.Record{Kind: 2, Data: []byte("committed")})

	if err := p.Wait(ctx); err != nil {
		panic(err)
	}

	fmt.Println("durable:", p.First(), "to", p.Last())

	c, err := l.Cursor(1)
	if err != nil {
		panic(err)
	}
	defer c.Close()

	for {
		e, ok, err := c.TryNext() // Next would wait for more
		if err != nil {
			panic(err)
		}
		if !ok {
			break
		}
		fmt.Println(e.Index, e.Kind, string(e.Data))
	}
	// Output:
	// durable: 1 to 2
	// 1 1 decided
	// 2 2 committed
}

// A block needs one wait. Its first record is appended without waiting, because the sync of its
// last record covers both.
func ExampleLog_AppendNoSync() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "eventlog")
	defer os.RemoveAll(dir)

	l, err := eventlog.Open(dir, eventlog.Options{})
	if err != nil {
		panic(err)
	}
	defer l.Close()

	decided, err := l.AppendNoSync(ctx, eventlog.Record{Kind: 1, Data: []byte("order")})
	if err != nil {
		panic(err)
	}

	err = l.Append(ctx, eventlog.Record{Kind: 2, Data: []byte("results")}).Wait(ctx)
	fmt.Println(decided, l.Durable(), err)
	// Output: 1 2 <nil>
}

// A reader that must miss nothing holds back truncation, and raises its floor when it has stored
// what it read.
func ExampleLog_Retain() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "eventlog")
	defer os.RemoveAll(dir)

	l, err := eventlog.Open(dir, eventlog.Options{SegmentSize: 8 << 10})
	if err != nil {
		panic(err)
	}
	defer l.Close()

	sink := l.Retain("sink", 1)
	defer sink.Release()

	for range 100 {
		if err := l.Append(ctx, eventlog.Record{Data: make([]byte, 1000)}).Wait(ctx); err != nil {
			panic(err)
		}
	}

	removed, _ := l.Truncate(90)
	fmt.Println("removed while the sink needs all:", removed)
	sink.Advance(50)
	removed, _ = l.Truncate(90)
	fmt.Println("removed once it needs 50 and on:", removed > 0, l.First() <= 50)
	// Output:
	// removed while the sink needs all: 0
	// removed once it needs 50 and on: true true
}

// Damage is reported with its place. It is not repaired by dropping records.
func ExampleVerify() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "eventlog")
	defer os.RemoveAll(dir)

	l, err := eventlog.Open(dir, eventlog.Options{})
	if err != nil {
		panic(err)
	}

	for _, word := range []string{"one", "two", "three"} {
		l.Append(ctx, eventlog.Record{Data: []byte(word)}).Wait(ctx)
	}

	if err := l.Close(); err != nil {
		panic(err)
	}

	path := filepath.Join(dir, "0000000000000001.seg")
	file, _ := os.ReadFile(path)
	file[4096+34] ^= 1 // the first letter of the first record
	os.WriteFile(path, file, 0o644)

	_, err = eventlog.Verify(dir, eventlog.Options{})
	var where *eventlog.CorruptError
	fmt.Println(errors.Is(err, eventlog.ErrCorrupt), errors.As(err, &where))
	fmt.Println(filepath.Base(where.File), where.Offset, where.Index)
	_, err = eventlog.Open(dir, eventlog.Options{})
	fmt.Println(errors.Is(err, eventlog.ErrCorrupt))
	// Output:
	// true true
	// 0000000000000001.seg 4096 1
	// true
}
