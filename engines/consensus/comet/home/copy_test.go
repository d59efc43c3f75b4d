package home

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"

	cmtstate "github.com/cometbft/cometbft/proto/tendermint/state"
	cmtstore "github.com/cometbft/cometbft/proto/tendermint/store"
	"github.com/cosmos/gogoproto/proto"
	"github.com/stretchr/testify/require"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
)

// chainWriter writes to databases in the order in which CometBFT writes a block.
type chainWriter struct {
	t         *testing.T
	databases map[string]*leveldb.DB
}

func newChainWriter(t *testing.T) chainWriter {
	t.Helper()
	w := chainWriter{t, make(map[string]*leveldb.DB)}
	for _, name := range []string{"evidence", "tx_index", blockDatabase, stateDatabase} {
		db, err := leveldb.OpenFile(filepath.Join(t.TempDir(), name), nil)
		require.NoError(t, err)
		t.Cleanup(func() { db.Close() })
		w.databases[name] = db
	}
	return w
}

func (w chainWriter) put(database string, key []byte, m proto.Message) {
	data, err := proto.Marshal(m)
	require.NoError(w.t, err)
	require.NoError(w.t, w.databases[database].Put(key, data, nil))
}

func (w chainWriter) block(height int64) {
	w.put(blockDatabase, blockHeightKey, &cmtstore.BlockStoreState{Base: 1, Height: height})
	h := binary.BigEndian.AppendUint64(nil, uint64(height))
	require.NoError(w.t, w.databases["evidence"].Put([]byte("committed"), h, &opt.WriteOptions{}))
	w.put(stateDatabase, stateKey, &cmtstate.State{LastBlockHeight: height})
}

// Whenever databases are frozen while blocks are written, they are of one moment: the state is that
// of the newest block or of the block before, and no evidence is of a later block than that.
func TestFrozenDatabasesAreOfOneMoment(t *testing.T) {
	w := newChainWriter(t)
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for h := int64(1); ctx.Err() == nil; h++ {
			w.block(h)
		}
	})
	defer writing.Wait()
	defer stop()

	for last := int64(0); last < 2000; {
		f, err := Freeze(t.Context(), w.databases)
		require.NoError(t, err)
		require.Contains(t, []int64{f.Blocks, f.Blocks - 1}, f.State)
		require.GreaterOrEqual(t, f.Blocks, last)
		require.Equal(t, "evidence", f.Databases[0])
		h, err := f.snapshots[0].Get([]byte("committed"), nil)
		if err == nil {
			require.LessOrEqual(t, int64(binary.BigEndian.Uint64(h)), f.Blocks)
		}
		last = f.Blocks
		f.Release()
	}
}

// What is frozen stays as it was, and its stream has all of it.
func TestAFrozenDatabaseDoesNotMove(t *testing.T) {
	w := newChainWriter(t)
	w.block(1)
	f, err := Freeze(t.Context(), w.databases)
	require.NoError(t, err)
	defer f.Release()
	w.block(2)
	w.block(3)

	var stream bytes.Buffer
	require.NoError(t, f.WriteStream(t.Context(), &stream))
	r := bufio.NewReader(&stream)
	head, err := ReadCopyHead(r)
	require.NoError(t, err)
	require.Equal(t, Heights{Base: 1, Blocks: 1, State: 1}, head.Heights)
	require.Equal(t, []string{"evidence", "tx_index", blockDatabase, stateDatabase}, head.Databases)

	dir := t.TempDir()
	for _, name := range head.Databases {
		var file bytes.Buffer
		require.NoError(t, CopyPairs(t.Context(), r, &file))
		path := filepath.Join(dir, PairsFile(name))
		require.NoError(t, os.WriteFile(path, file.Bytes(), 0o600))
		require.NoError(t, loadDatabase(t.Context(), path, filepath.Join(dir, name+databaseSuffix), func(uint64) {}))

		require.NoError(t, os.WriteFile(path, append(file.Bytes(), 0), 0o600))
		err = loadDatabase(t.Context(), path, filepath.Join(dir, "longer"+name), func(uint64) {})
		require.ErrorIs(t, err, ErrChainDamage)
		require.NoError(t, os.WriteFile(path, file.Bytes()[:file.Len()-1], 0o600))
		err = loadDatabase(t.Context(), path, filepath.Join(dir, "shorter"+name), func(uint64) {})
		require.ErrorIs(t, err, ErrChainDamage)
		require.ErrorContains(t, err, path)
	}

	db, err := openReadOnly(filepath.Join(dir, stateDatabase+databaseSuffix))
	require.NoError(t, err)
	defer db.Close()
	height, err := stateHeight(db.DB())
	require.NoError(t, err)
	require.EqualValues(t, 1, height)
	require.NoError(t, verifyDatabase(t.Context(), filepath.Join(dir, blockDatabase+databaseSuffix)))
}

// Without the blocks or the state there is nothing to copy. The end of the context ends the work.
func TestFreezeNeedsBlocksAndState(t *testing.T) {
	w := newChainWriter(t)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := Freeze(ended, w.databases)
	require.ErrorIs(t, err, context.Canceled)

	delete(w.databases, stateDatabase)
	_, err = Freeze(t.Context(), w.databases)
	require.ErrorContains(t, err, "the database state is not open")
}
