package streams

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// measuring is a sink that keeps nothing, and measures the heap as it takes events.
type measuring struct {
	o       Opening
	cursor  Cursor
	peak    uint64
	payload int
	changes int
}

func (m *measuring) Open(_ context.Context, o Opening) (Cursor, error) {
	m.o, m.cursor.Epoch = o, o.Epoch
	return m.cursor, nil
}

func (m *measuring) Write(ctx context.Context, d Delivery) error {
	for n := 0; ; n++ {
		e, err := d.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		m.payload += len(e.Payload())
		if _, ok := e.Body.(*Change); ok {
			m.changes++
		}
		if n%8 == 0 {
			m.peak = max(m.peak, heapInUse())
		}
		if _, ok := e.Body.(*End); ok {
			m.cursor = m.o.Cursor(e)
			m.cursor.BlockHash, m.cursor.AppHash = []byte(string(m.cursor.BlockHash)), []byte(string(m.cursor.AppHash))
			m.cursor.Digest = []byte(string(m.cursor.Digest))
		}
		d.Credit(e.Size())
	}
}

func (m *measuring) Observe(context.Context) (Cursor, error) { return m.cursor, nil }
func (m *measuring) Read(context.Context, Position, Position, func(Event) error) error {
	return ErrNoRead
}
func (m *measuring) Close(context.Context) error { return nil }

// heapInUse returns the bytes of the heap that are in use after a collection.
func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// Items 25 and 58, R21: a block of 120 MiB (bodies, changes, answers) is delivered without being in
// memory as a whole. The memory of the sinks is measured by sinktest.Large, with the same bound.
func TestABlockIsNotHeldInMemory(t *testing.T) {
	const part = 4 << 20
	r := newRig(t)
	r.start()
	sink := &measuring{}
	r.opts = func(o *Options) {
		o.Factories[0].New = func(Definition, Secrets) (Sink, error) { return sink, nil }
		o.Factories[0].Limits = Limits{Payload: 1 << 20}
	}
	r.appendLarge(part)
	idle := heapInUse()
	r.define("out", "bodies = true\n")
	r.up()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, r.streams.Wait(ctx, "out", Position{Height: 1}))
	r.down()

	require.Greater(t, sink.payload, 120<<20)
	t.Logf("idle %d MiB, peak %d MiB for %d MiB", idle>>20, sink.peak>>20, sink.payload>>20)
	require.Less(t, sink.peak, idle+32<<20)
}

// appendLarge appends a block of 16 bodies, 8 changes and 7 answers of so many bytes.
func (r *rig) appendLarge(part int) {
	d := &logv1.OrderDecided{ChainId: "c", Height: 1, BlockHash: []byte("block1")}
	c := &logv1.BlockCommitted{ChainId: "c", Height: 1, BlockHash: d.BlockHash, AppHash: []byte("app1")}
	for n := range 16 {
		version := &logv1.Version{Height: 1, Index: uint32(n)}
		tx, err := chain.Tx{Backend: "kv", Nonce: []byte{byte(n)}, ValidUntil: time.UnixMilli(1),
			Body: make([]byte, part)}.Encode()
		require.NoError(r.t, err)
		d.Txs = append(d.Txs, tx)
		result := &logv1.TxResult{Id: fmt.Append(nil, n), Version: version}
		if n < 7 {
			result.Data = make([]byte, part)
		}
		c.Results = append(c.Results, result)
		if n < 8 {
			c.Changes = append(c.Changes, &logv1.Change{Version: version, Key: fmt.Append(nil, "k", n),
				Value: make([]byte, part)})
		}
	}
	r.append(d)
	r.append(c)
	r.height = 1
}
