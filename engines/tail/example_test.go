package tail_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/tail"
	"github.com/coppice-go/coppice/eventlog"
)

// opened is a log without a logger. In an engine, logger.NewClient provides the tail.Log.
type opened struct{ *eventlog.Log }

func (l opened) Cursor(_ context.Context, from uint64) (*eventlog.Cursor, error) {
	return l.Log.Cursor(from)
}
func (l opened) Stat(context.Context) (eventlog.Stat, error) { return l.Log.Stat(), nil }
func (l opened) Retain(_ context.Context, name string, floor uint64) (*eventlog.Retainer, error) {
	return l.Log.Retain(name, floor), nil
}

// A sink stores blocks together with its cursor. Records that it does not have yet are not
// truncated.
func Example() {
	dir, err := os.MkdirTemp("", "tail")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	log, err := eventlog.Open(filepath.Join(dir, "log"), eventlog.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer log.Close()

	ctx := context.Background()
	_, err = log.AppendWait(ctx, eventlog.Record{Kind: chain.KindTxLaunched},
		eventlog.Record{Kind: chain.KindOrderDecided}, eventlog.Record{Kind: chain.KindBlockCommitted})
	if err != nil {
		fmt.Println(err)
		return
	}

	var cursor uint64 // durable, in the sink
	t := tail.New(tail.Options{
		Log:      func() (tail.Log, error) { return opened{log}, nil },
		After:    cursor,
		Kinds:    []eventlog.Kind{chain.KindBlockCommitted},
		Retainer: "sink",
	})
	defer t.Close()

	for record, err := range t.Records(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}

		fmt.Println(record.Index, chain.KindName(record.Kind))
		cursor = record.Index // once the sink has it
		t.Checkpoint(cursor)

		break // a real sink would continue and wait for the next block
	}

	fmt.Println(log.Stat().Retainers[0].Name, "holds from", log.Stat().Retainers[0].Floor)
	// Output:
	// 3 BlockCommitted
	// sink holds from 4
}
