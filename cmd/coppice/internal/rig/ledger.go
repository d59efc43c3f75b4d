package rig

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
)

// Count counts what happened to acknowledged transactions, as a client sees it.
type Count struct {
	Acknowledged int
	Lost         int      // acknowledged, but not applied
	Twice        int      // applied more than once
	Examples     []string // a few of those that are wrong
}

// Bad reports whether anything is wrong.
func (c Count) Bad() bool { return c.Lost+c.Twice > 0 }

// add counts an acknowledged transaction whose counter is not 1 as lost or as applied twice.
func (c *Count) add(m load.Mismatch) {
	n, err := strconv.ParseInt(m.Got, 10, 64)
	if m.Found && err == nil && n > 1 {
		c.Twice++
	} else {
		c.Lost++
	}

	if len(c.Examples) < 5 {
		c.Examples = append(c.Examples, m.String())
	}
}

// Ledger remembers every acknowledged transaction, and which ones came since the last Take. It is
// safe for concurrent use.
type Ledger struct {
	mu   sync.Mutex
	all  []load.Item
	from int           // index in all of the first one since the last Take
	more chan struct{} // closed and replaced when all grows
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger { return &Ledger{more: make(chan struct{})} }

// Write adds items. It can be used as load.Config.Acked.
func (l *Ledger) Write(items []load.Item) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range items {
		l.all = append(l.all, load.Item{Key: it.Key, Value: it.Value}) // the body is no longer needed
	}
	close(l.more)
	l.more = make(chan struct{})
	return nil
}

// Take returns the items acknowledged since the last Take.
func (l *Ledger) Take() []load.Item {
	l.mu.Lock()
	defer l.mu.Unlock()

	items := l.all[l.from:len(l.all):len(l.all)]
	l.from = len(l.all)
	return items
}

// All returns all items.
func (l *Ledger) All() []load.Item {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[:len(l.all):len(l.all)]
}

// Grow waits until n more transactions are acknowledged.
func (l *Ledger) Grow(ctx context.Context, n int) error {
	l.mu.Lock()
	want := len(l.all) + n
	for len(l.all) < want {
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d more acknowledgments: %w", n, context.Cause(ctx))
		}
		l.mu.Lock()
	}

	l.mu.Unlock()

	return nil
}

// Audit reads the counters of the acknowledged items, and counts those that were lost or applied
// twice. A counter that is not 1 may still become 1, because its transaction may have no block yet.
// So Audit makes an ordered read, which waits for a block, and reads the counter again, up to
// auditRounds times.
func Audit(ctx context.Context, c *client.Client, items []load.Item) (Count, error) {
	count := Count{Acknowledged: len(items)}
	for round := 0; ; round++ {
		var open []load.Item
		var wrong []load.Mismatch
		err := load.Compare(ctx, c, items, func(m load.Mismatch) {
			open = append(open, load.Item{Key: m.Key, Value: m.Want})
			wrong = append(wrong, m)
		})
		if err != nil || len(open) == 0 {
			return count, err
		}

		if round == auditRounds {
			for _, m := range wrong {
				count.add(m)
			}
			return count, nil
		}

		if _, _, err := c.GetConsistent(ctx, []byte("audit")); err != nil {
			return count, err
		}

		items = open
	}
}

// auditRounds is how many ordered reads, and so blocks, an acknowledged transaction may take until
// it counts as lost.
const auditRounds = 50
