package storage

import (
	"bytes"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// TestMain runs fewer random histories than rapid's hundred, unless -rapid.checks sets a number:
// with the race detector on, Pebble records a stack for each table iterator.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		flag.Set("rapid.checks", "40")
	}
	goleak.VerifyTestMain(m)
}

// T is the common part of testing.T and rapid.T.
type T interface {
	require.TestingT
	Helper()
}

const (
	dir    = "state"
	window = time.Minute
)

// genesis is the time at which test chains begin.
var genesis = time.Unix(1_700_000_000, 0)

func params() *logv1.Params {
	p := chain.DefaultParams()
	p.WindowNs = int64(window)
	p.MaxTxBytes = 1000
	return p
}

func chainStarted(period uint64) *logv1.ChainStarted {
	return &logv1.ChainStarted{
		ChainId: fmt.Sprintf("test-%d", period), Period: period, InitialHeight: 1,
		GenesisTimeNs: genesis.UnixNano(), Params: params(),
	}
}

func open(t T, fs vfs.FS) *DB {
	t.Helper()
	d, err := Open(dir, Options{FS: fs, MemTableBytes: 1 << 20})
	require.NoError(t, err)
	return d
}

// started returns an empty chain of period 1, whose ChainStarted is record 1.
func started(t *testing.T) *DB {
	t.Helper()
	d := open(t, vfs.NewMem())
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.NoError(t, d.StartChain(1, chainStarted(1)))
	return d
}

// tx returns an enveloped transaction; n makes it different from others.
func tx(t T, n int, until time.Time) []byte {
	t.Helper()
	b, err := chain.Tx{Backend: "kv", Nonce: fmt.Appendf(nil, "%d", n), ValidUntil: until}.Encode()
	require.NoError(t, err)
	return b
}

func block(d *DB, at time.Time, txs ...[]byte) chain.Block {
	s := d.State()
	b := chain.Block{ChainID: s.ChainID, Period: s.Period, Height: s.Next(), Time: at, Txs: txs}
	b.Hash = b.ContentHash()
	return b
}

func put(key, value string) *logv1.Change {
	return &logv1.Change{Key: []byte(key), Value: []byte(value)}
}

func del(key string) *logv1.Change { return &logv1.Change{Key: []byte(key), Delete: true} }

func at(v chain.Version, changes ...*logv1.Change) []*logv1.Change {
	for _, c := range changes {
		c.Version = v.Proto()
	}
	return changes
}

func committed(s chain.Staged) *logv1.BlockCommitted {
	b := s.Block
	return &logv1.BlockCommitted{
		ChainId: b.ChainID, Period: b.Period, Height: b.Height, BlockHash: b.Hash, TimeNs: b.Time.UnixNano(),
		Results: s.Results, Changes: s.Changes, AppHash: s.AppHash,
	}
}

// commit makes one block of one transaction that writes changes, and returns its record.
func (d *DB) testCommit(t T, index uint64, changes ...*logv1.Change) *logv1.BlockCommitted {
	t.Helper()
	now := d.State()
	b := block(d, genesis.Add(time.Duration(index)*time.Second), tx(t, int(index), genesis.Add(window)))
	refused, err := d.Begin(b)
	require.NoError(t, err)
	require.Nil(t, refused[0])
	v := chain.Version{Period: now.Period, Height: b.Height}
	require.NoError(t, d.Finish(v, at(v, changes...), &logv1.TxResult{Data: []byte("done")}))
	s, err := d.Seal()
	require.NoError(t, err)
	rec := committed(s)
	require.NoError(t, d.Commit(index, rec))

	return rec
}

// get reads a key and requires that there is no error.
func (d *DB) testGet(t T, key string, height uint64) string {
	t.Helper()
	v, found, _, err := d.Get([]byte(key), height)
	require.NoError(t, err)
	if !found {
		require.Empty(t, v)
		return "none"
	}
	return string(bytes.Clone(v))
}
