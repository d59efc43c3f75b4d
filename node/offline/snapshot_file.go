package offline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// ExportSnapshot writes a snapshot of a home to w, as a file that any node of the chain can import
// (see portable.File). id is that of a snapshot of the home, or "period-height" of one for peers;
// empty selects the home's newest. A node may be running in the home. The snapshot is verified
// first. Errors are exit.ErrDamage, exit.ErrConfig, snapshots.ErrNone, and those of w.
func ExportSnapshot(ctx context.Context, dir, id string, w io.Writer, o SnapshotOptions) (m portable.Metadata,
	err error) {
	if err := home.CheckFormat(dir); err != nil {
		return m, err
	}
	g, err := home.ReadGenesis(dir)
	if err != nil {
		return m, err
	}

	about := portable.About{Program: o.Program, Created: time.Now().UTC().Truncate(time.Millisecond), Genesis: g}
	if strings.Count(id, "-") == 1 {
		m, err = exportForPeers(ctx, dir, id, w, about)
	} else {
		m, err = exportOwn(ctx, dir, id, w, about, o)
	}

	return m, fileError(err)
}

// PeerSnapshots returns the snapshots that a home has for its peers, the oldest first. A node may
// be running in the home.
func PeerSnapshots(dir string) ([]portable.Metadata, error) {
	if err := home.CheckFormat(dir); err != nil {
		return nil, err
	}
	return peersDir(vfs.Default, dir).List()
}

func peersDir(disk vfs.FS, dir string) portable.Dir {
	return portable.Dir{FS: disk, Path: home.StateSyncDir(dir)}
}

// PeerSnapshotID returns the id of a snapshot for peers: "period-height".
func PeerSnapshotID(m portable.Metadata) string { return fmt.Sprintf("%d-%d", m.Period, m.Height) }

func exportForPeers(ctx context.Context, dir, id string, w io.Writer, about portable.About) (portable.Metadata,
	error) {
	d := peersDir(vfs.Default, dir)
	list, err := d.List()
	if err != nil {
		return portable.Metadata{}, err
	}

	for _, m := range list {
		if PeerSnapshotID(m) == id {
			return m, d.Export(ctx, w, m, about)
		}
	}

	return portable.Metadata{}, fmt.Errorf("%w: %q in %s", snapshots.ErrNone, id, d.Path)
}

func exportOwn(ctx context.Context, dir, id string, w io.Writer, about portable.About,
	o SnapshotOptions) (made portable.Metadata, err error) {
	d := snapshots.Dir{FS: vfs.Default, Path: home.SnapshotDir(dir)}
	m, err := d.Verify(ctx, id, o.Progress)
	if err != nil {
		return made, err
	}

	db, err := storage.Open(vfs.Default.PathJoin(d.Path, m.ID), storage.Options{ReadOnly: true, CacheBytes: 8 << 20})
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	p, err := db.Pin()
	if err != nil {
		return made, err
	}
	defer p.Close()

	if p.Height() == 0 {
		return made, fmt.Errorf("%w: snapshot %s has no block, and no height at which a node could begin",
			exit.ErrConfig, m.ID)
	}

	if about.Started, err = proto.Marshal(db.Started()); err != nil {
		return made, err
	}

	s := db.State()
	about.BlockHash, about.BlockTime, about.LogID, about.Index = s.BlockHash, s.Time.UTC(), m.LogID, m.Index

	return portable.Export(ctx, w, p, about, portable.Taking{})
}

// fileError gives an error of a snapshot file its class.
func fileError(err error) error {
	switch {
	case err == nil, errors.Is(err, exit.ErrConfig), errors.Is(err, exit.ErrDamage):
		return err
	case errors.Is(err, portable.ErrFormat), errors.Is(err, portable.ErrStale):
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	case errors.Is(err, portable.ErrFile), errors.Is(err, portable.ErrSnapshot), errors.Is(err, portable.ErrChunk):
		return fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}
	return exit.Classify(err)
}

// snapshotFile is an open file of a snapshot.
type snapshotFile struct {
	*portable.File
	closer io.Closer
	name   string
}

// openFile opens the file of a snapshot, and reads its head and its end.
func openFile(name string) (*snapshotFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s is no regular file", exit.ErrConfig, name)
	}

	var in *portable.File
	if err == nil {
		if in, err = portable.ReadFile(f, info.Size()); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	}
	if err != nil {
		return nil, fileError(errors.Join(err, f.Close()))
	}

	return &snapshotFile{in, f, name}, nil
}

// Close closes the file.
func (f *snapshotFile) Close() error { return f.closer.Close() }

// ofHome returns the record that starts the chain of a home, for a file of that chain. It returns
// exit.ErrConfig if the file is of another chain.
func (f *snapshotFile) ofHome(dir string) (*logv1.ChainStarted, error) {
	g, err := home.ReadGenesis(dir)
	if err != nil {
		return nil, err
	}

	switch same, err := sameGenesis(g, f.Genesis); {
	case err != nil:
		return nil, err
	case g.ChainID != chain.NameOf(f.ChainID, f.Period):
		return nil, fmt.Errorf("%w: %s is of chain %q, the home %s of %q: want a snapshot of the home's chain",
			exit.ErrConfig, f.name, f.ChainID, dir, g.ChainID)
	case !same:
		return nil, fmt.Errorf("%w: %s is of another chain with the name %q: its genesis differs from %s of the "+
			"home %s", exit.ErrConfig, f.name, f.ChainID, chain.GenesisFile, dir)
	}

	return f.started(g)
}

// started returns the record that began the chain in the period of the file: the file's own, if it
// has one that agrees with the genesis g, and otherwise that of g.
func (f *snapshotFile) started(g chain.Genesis) (*logv1.ChainStarted, error) {
	rec, err := g.ChainStarted()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	rec.ChainId, rec.Period = chain.EpochID(g.ChainID, f.Period), f.Period
	if len(f.Started) == 0 {
		return rec, nil
	}

	own := new(logv1.ChainStarted)
	if err := proto.Unmarshal(f.Started, own); err != nil {
		return nil, fmt.Errorf("%w: %s: the record that began the chain: %w", exit.ErrDamage, f.name, err)
	}
	if own.ChainId != rec.ChainId || own.Period != rec.Period || !proto.Equal(own.Params, rec.Params) {
		return nil, fmt.Errorf("%w: %s: the chain was started as %q (period %d) with the limits {%v}, its genesis "+
			"says %q (period %d) and {%v}", exit.ErrConfig, f.name, own.ChainId, own.Period, own.Params, rec.ChainId,
			rec.Period, rec.Params)
	}

	return own, nil
}

func sameGenesis(a, b chain.Genesis) (bool, error) {
	a.GenesisTime, b.GenesisTime = a.GenesisTime.UTC(), b.GenesisTime.UTC()
	one, err := a.AppState()
	if err != nil {
		return false, err
	}
	other, err := b.AppState()
	return bytes.Equal(one, other), err
}

// build makes the state of the file in a directory, which must be on disk.
func (f *snapshotFile) build(ctx context.Context, disk vfs.FS, dir string, c *logv1.ChainStarted,
	o SnapshotOptions) error {
	err := f.Build(ctx, portable.Target{FS: disk, Dir: dir, Fatal: o.Fatal, Chain: c}, o.Progress)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return nil
}
