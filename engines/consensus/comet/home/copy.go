package home

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cfg "github.com/cometbft/cometbft/config"
	cmtstate "github.com/cometbft/cometbft/proto/tendermint/state"
	cmtstore "github.com/cometbft/cometbft/proto/tendermint/store"
	"github.com/cosmos/gogoproto/proto"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"github.com/coppice-go/coppice/internal/recordlog"
)

// Keys of CometBFT under which a database says how far it is.
var (
	blockHeightKey = []byte("blockStore")
	stateKey       = []byte("stateKey")
)

// Heights say how far the databases of a Frozen are.
type Heights struct {
	Base   int64 `json:"base"`   // of the oldest block; 0 if there is none
	Blocks int64 `json:"blocks"` // of the newest block; 0 if there is none
	State  int64 `json:"state"`
}

// CopyHead is what comes before the pairs of the databases in a stream of a Frozen.
type CopyHead struct {
	Heights
	Databases []string `json:"databases"` // names, in the order of their pairs
}

// Frozen is CometBFT's databases as they were at one moment, while CometBFT goes on.
type Frozen struct {
	CopyHead
	snapshots []*leveldb.Snapshot
}

// errMoving is the error if the databases never were at one height. A commit takes a short part of
// the time of a block, so that this does not happen on a chain that is in order.
var errMoving = errors.New("CometBFT's blocks and its state were at no moment of one height")

// mostTries is how often Freeze tries to take snapshots of one height.
const mostTries = 1000

// Freeze takes a snapshot of each of CometBFT's open databases. Together they are what a CometBFT
// that is killed at this moment finds at its next start. For that, the block store must be at the
// height of the state or one above, and the evidence must not be of a later block: CometBFT marks
// evidence as committed before it saves the state of that block, and would refuse the block if it
// came again. Therefore the state must not change from before the first snapshot to the last one.
// Nothing waits for Freeze, which tries again instead.
func Freeze(ctx context.Context, databases map[string]*leveldb.DB) (f *Frozen, err error) {
	for _, name := range []string{blockDatabase, stateDatabase} {
		if databases[name] == nil {
			return nil, fmt.Errorf("the database %s is not open", name)
		}
	}

	// The state comes last, and the blocks before it: see above. An index of transactions that
	// lacks the newest block is as after a crash.
	var names []string
	for name := range databases {
		if name != blockDatabase && name != stateDatabase {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = append(names, blockDatabase, stateDatabase)

	for range mostTries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		f, err := freeze(names, databases)
		if f != nil || err != nil {
			return f, err
		}
	}

	return nil, errMoving
}

// freeze is one try of Freeze. It returns nil if the databases have moved meanwhile.
func freeze(names []string, databases map[string]*leveldb.DB) (_ *Frozen, err error) {
	before, err := stateHeight(databases[stateDatabase])
	if err != nil {
		return nil, err
	}

	f := &Frozen{CopyHead: CopyHead{Databases: names}}

	for _, name := range names {
		s, err := databases[name].GetSnapshot()
		if err != nil {
			f.Release()
			return nil, fmt.Errorf("a snapshot of the database %s: %w", name, err)
		}
		f.snapshots = append(f.snapshots, s)
	}

	f.State, err = stateHeight(f.snapshots[len(names)-1])
	if err == nil {
		f.Base, f.Blocks, err = blockHeights(f.snapshots[len(names)-2])
	}
	if err != nil || f.State != before || f.Blocks > 0 && f.Blocks != f.State && f.Blocks != f.State+1 {
		f.Release()
		return nil, err
	}

	return f, nil
}

// getter is a database or a snapshot of one.
type getter interface {
	Get(key []byte, o *opt.ReadOptions) ([]byte, error)
}

// read decodes the value of a key into m. A value that is not there is the zero value.
func read(from getter, key []byte, m proto.Message) error {
	data, err := from.Get(key, nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = proto.Unmarshal(data, m)
	}
	if err != nil {
		return fmt.Errorf("%w: the key %s of its databases: %w", ErrChainDamage, key, err)
	}
	return nil
}

func stateHeight(from getter) (int64, error) {
	var s cmtstate.State
	err := read(from, stateKey, &s)
	return s.LastBlockHeight, err
}

func blockHeights(from getter) (base, height int64, err error) {
	var s cmtstore.BlockStoreState
	err = read(from, blockHeightKey, &s)
	return s.Base, s.Height, err
}

// Release lets go of the databases.
func (f *Frozen) Release() {
	for _, s := range f.snapshots {
		s.Release()
	}
	f.snapshots = nil
}

// WritePairs writes the pairs of the database with the given place in f.Databases.
func (f *Frozen) WritePairs(ctx context.Context, i int, to io.Writer) error {
	it := f.snapshots[i].NewIterator(nil, &opt.ReadOptions{DontFillCache: true, Strict: opt.StrictAll})
	defer it.Release()

	w := newPairWriter(to)

	for n := 0; it.Next(); n++ {
		if n%64 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.put(it.Key(), it.Value()); err != nil {
			return err
		}
	}

	if err := it.Error(); err != nil {
		return fmt.Errorf("reading the database %s: %w", f.Databases[i], err)
	}
	return w.end()
}

// WriteStream writes everything: a line with the CopyHead as JSON, and the pairs of each database.
func (f *Frozen) WriteStream(ctx context.Context, to io.Writer) error {
	head, err := json.Marshal(f.CopyHead)
	if err != nil {
		return err
	}
	if _, err := to.Write(append(head, '\n')); err != nil {
		return err
	}

	for i := range f.Databases {
		if err := f.WritePairs(ctx, i, to); err != nil {
			return err
		}
	}

	return nil
}

// ReadCopyHead reads the line with which a stream of a Frozen begins.
func ReadCopyHead(r *bufio.Reader) (h CopyHead, err error) {
	line, err := r.ReadSlice('\n')
	if err == nil {
		err = json.Unmarshal(line, &h)
	}
	if err != nil {
		return h, fmt.Errorf("the beginning of a copy of CometBFT's databases: %w", err)
	}

	for _, name := range h.Databases {
		if !plainDatabase(name) {
			return h, fmt.Errorf("a copy of CometBFT's databases has one of the name %q", name)
		}
	}
	return h, nil
}

// CopyPairs copies the pairs of one database of a stream.
func CopyPairs(ctx context.Context, from *bufio.Reader, to io.Writer) error {
	w := newPairWriter(to)

	if err := readPairs(from, func(key, value []byte) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return w.put(key, value)
	}); err != nil {
		return err
	}

	return w.end()
}

// plainDatabase reports whether a name is that of a database in the directory of databases.
func plainDatabase(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, `/\`)
}

// pairsSuffix ends the name of the file of a database in a backup.
const pairsSuffix = ".pairs"

// PairsFile returns the name of the file of a database in a backup.
func PairsFile(database string) string { return database + pairsSuffix }

// OpenDatabases opens the databases of a home in which no node runs, and changes nothing in them.
// There are none if CometBFT was never started.
func OpenDatabases(home string) (open map[string]*leveldb.DB, closeAll func() error, err error) {
	c, err := LoadConfig(home)
	if err != nil {
		return nil, nil, err
	}
	dirs, err := databases(c)
	if err != nil {
		return nil, nil, err
	}

	open = make(map[string]*leveldb.DB)
	closeAll = func() error {
		var errs []error
		for _, db := range open {
			errs = append(errs, db.Close())
		}
		return errors.Join(errs...)
	}

	for _, dir := range dirs {
		gone, err := missing(dir)
		if err == nil && gone {
			continue // the next start makes it
		}
		if err != nil {
			return nil, nil, errors.Join(damaged(dir, err), closeAll())
		}
		if err := checkJournals(dir, recordlog.Check); err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}

		db, err := openReadOnly(dir)
		if err != nil {
			return nil, nil, errors.Join(damaged(dir, err), closeAll())
		}
		open[strings.TrimSuffix(filepath.Base(dir), databaseSuffix)] = db.DB()
	}

	return open, closeAll, nil
}

// DatabaseBytes returns the size of CometBFT's databases on the disk.
func DatabaseBytes(c *cfg.Config) (total int64) {
	dirs, _ := databases(c) // an approximate size is told without an error
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
				total += info.Size()
			}
		}
	}
	return total
}

// CopiedProofs returns what a home keeps of the epochs of its chain, by the name of the file: the
// genesis of epoch 0, if the chain was reset, and the proofs.
func CopiedProofs(home string) (names []string, files [][]byte, err error) {
	if names, err = ProofFiles(home); err != nil {
		return nil, nil, err
	}
	for i, name := range names {
		names[i] = filepath.Join(CertificateDir(home), name)
	}
	if exists(firstGenesisPath(home)) {
		names = append(names, firstGenesisPath(home))
	}

	for i, path := range names {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrHome, err)
		}
		names[i], files = filepath.Base(path), append(files, data)
	}

	return names, files, nil
}

// CopiedFiles returns the configuration and the genesis of a home, which a backup has beside the
// databases.
func CopiedFiles(home string) (config, genesis []byte, err error) {
	for _, path := range []string{configPath(home), GenesisPath(home)} {
		if err := whole(home, path); err != nil {
			return nil, nil, err
		}
	}
	if config, err = os.ReadFile(configPath(home)); err == nil {
		genesis, err = os.ReadFile(GenesisPath(home))
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: %w", ErrHome, err)
	}
	return config, genesis, err
}
