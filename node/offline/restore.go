package offline

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

const (
	restoringSuffix = ".restoring" // ends the name of a home that is not complete
	restoringWork   = "restore or init --from"
	copyBatch       = 1 << 20 // bytes of records in one append
)

// Restore makes a home in dir from a backup. dir must not exist or must be an empty directory. The
// new home has the snapshot as its state, and a new admin token unless the backup contains one. It
// has a log of its own, which begins with a Base record, followed by the backup's records under
// their old numbers; a log that is complete from record 1 needs no Base. Every byte and every app
// hash are verified, and the home appears complete or not at all. Errors are exit.ErrConfig and
// exit.ErrDamage.
func Restore(ctx context.Context, src, dir string, progress func(step string, done, total uint64)) (backup.Info,
	error) {
	return RestoreWith(ctx, src, dir, RestoreOptions{Progress: progress})
}

// RestoreOptions say how a home with a kind of consensus is restored.
type RestoreOptions struct {
	// Consensus are options of the backup's kind of consensus, such as the keys of a validator; nil
	// stands for its defaults.
	Consensus any

	// Note, if set, is told what the operator must know before the node of the new home starts.
	Note func(text string)

	// Progress, if set, is called with the step that the restoration is at, and how far that is.
	Progress func(step string, done, total uint64)
}

// RestoreWith is Restore with options.
func RestoreWith(ctx context.Context, src, dir string, o RestoreOptions) (backup.Info, error) {
	progress := o.Progress
	if progress == nil {
		progress = func(string, uint64, uint64) {}
	}

	dir, err := backup.RequireVacant(dir)
	if err != nil {
		return backup.Info{}, err
	}
	info, err := backup.Verify(ctx, src, progress)
	if err != nil {
		return info, exit.Classify(err)
	}

	dir, tmp, release, err := backup.Claim(dir, restoringSuffix, restoringWork)
	if err != nil {
		return info, err
	}
	defer release()
	r := restoration{src: src, home: tmp, info: info, progress: progress, copy: copyFile,
		options: o}
	if err := r.make(ctx); err != nil {
		return info, errors.Join(err, os.RemoveAll(tmp))
	}
	return info, durable.OS.Rename(tmp, dir)
}

// rehearsalSuffix ends the name of the directory in which Rehearse restores.
const rehearsalSuffix = ".rehearsal"

// Rehearse verifies a backup and restores it to a directory beside it, which it removes again. A
// backup that passes can be restored, and the node can start with what is restored. The tables of
// the state are not copied, where the file system has hard links. Errors are exit.ErrConfig and
// exit.ErrDamage.
func Rehearse(ctx context.Context, src string, progress func(step string, done, total uint64)) error {
	if progress == nil {
		progress = func(string, uint64, uint64) {}
	}
	info, err := backup.Verify(ctx, src, progress)
	if err != nil {
		return exit.Classify(err)
	}

	r := restoration{src: src, home: src + rehearsalSuffix, info: info, progress: progress, copy: linkFile}
	return errors.Join(r.make(ctx), os.RemoveAll(r.home))
}

// restoration is one call of Restore or Rehearse.
type restoration struct {
	src, home string // the backup, and the new home under its temporary name
	info      backup.Info
	progress  func(step string, done, total uint64)
	copy      func(from, to string, mode fs.FileMode) error // copies a file of the snapshot
	options   RestoreOptions
}

// make makes the home in place of what is left of an earlier attempt. Its errors have a class.
func (r *restoration) make(ctx context.Context) error {
	if err := os.RemoveAll(r.home); err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return exit.Classify(r.run(ctx))
}

// run makes the home and verifies it.
func (r *restoration) run(ctx context.Context) error {
	if err := os.MkdirAll(home.SnapshotDir(r.home), 0o700); err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	if err := r.files(); err != nil {
		return err
	}
	if err := r.consensus(ctx); err != nil {
		return err
	}
	id, err := r.log(ctx)
	if err != nil {
		return err
	}
	if err := r.facts(id); err != nil {
		return err
	}
	if err := r.snapshot(); err != nil {
		return err
	}

	dir := snapshots.Dir{FS: vfs.Default, Path: home.SnapshotDir(r.home)}
	m, err := dir.Install(ctx, r.info.Snapshot,
		snapshots.Installing{State: home.StateDir(r.home), LogID: id, Index: r.index(), Verified: true})
	if err != nil {
		return err
	}

	if r.info.First == 1 { // the log is complete, and replay does not need the snapshot
		if err := dir.Remove(m.ID); err != nil {
			return err
		}
	}

	for _, d := range []string{filepath.Join(r.home, "data"), r.home} {
		if err := durable.OS.SyncDir(d); err != nil {
			return err
		}
	}

	v, err := Verify(ctx, r.home, VerifyOptions{SkipReplay: true, Progress: r.progress, restored: true})
	if err != nil {
		return err
	}

	if v.Height != r.info.Height || !bytes.Equal(v.AppHash, r.info.AppHash) {
		return fmt.Errorf("%w: the restored home is at height %d with app hash %x, want %d with %v",
			exit.ErrDamage, v.Height, v.AppHash, r.info.Height, r.info.AppHash)
	}

	return nil
}

// manifest returns the manifest of the backup's snapshot.
func (r *restoration) manifest() (snapshots.Manifest, error) {
	return backup.Snapshots(r.src).Find(r.info.Snapshot)
}

// index returns the index of the last record whose effects the snapshot has. The numbers of records
// are the same in the old log and in the new one.
func (r *restoration) index() uint64 {
	m, err := r.manifest()
	if err != nil {
		panic(err) // the backup was verified just now
	}
	return m.Index
}

// files copies the genesis and the configuration, writes the token, and makes the directory a home.
func (r *restoration) files() error {
	for _, name := range []string{chain.GenesisFile, config.FileName} {
		if err := copyFile(filepath.Join(r.src, name), filepath.Join(r.home, name), 0o644); err != nil {
			return err
		}
	}

	for _, name := range r.info.Streams {
		to := filepath.Join(r.home, backup.StreamsName, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := copyFile(filepath.Join(r.src, backup.StreamsName, name), to, 0o600); err != nil {
			return err
		}
	}

	token, err := os.ReadFile(filepath.Join(r.src, api.TokenFileName))
	if errors.Is(err, fs.ErrNotExist) {
		token, err = []byte(rand.Text()+"\n"), nil
	}
	if err == nil {
		err = durable.OS.WriteNew(filepath.Join(r.home, api.TokenFileName), token, 0o600)
	}
	if err == nil {
		err = durable.OS.WriteNew(filepath.Join(r.home, home.FormatFile), []byte(home.Format), 0o644)
	}

	return err
}

// consensus makes the files of the home's kind of consensus, if it keeps any of its own.
func (r *restoration) consensus(ctx context.Context) error {
	k, c, err := home.Restorer(r.home)
	if err != nil {
		return err
	}

	facts := r.info.Consensus
	switch {
	case k == nil && facts == nil && r.options.Consensus == nil:
		return nil
	case k == nil && facts == nil:
		return fmt.Errorf("%w: backup %s is of a node with consensus %s, which has no keys and signs nothing",
			exit.ErrConfig, r.src, c.Consensus.Kind)
	case k == nil, facts == nil, k.Name() != facts.Kind:
		return fmt.Errorf("%w: backup %s does not have the files of consensus %s, which its %s names", exit.ErrDamage,
			r.src, c.Consensus.Kind, config.FileName)
	}

	g, err := home.ReadGenesis(r.home)
	if err != nil {
		return err
	}
	note := r.options.Note
	if note == nil {
		note = func(string) {}
	}

	return k.Restore(ctx, c.ConsensusHome(r.home, g), consensus.Restoring{
		From: filepath.Join(r.src, backup.ConsensusName), Facts: *facts, Options: r.options.Consensus, Note: note,
		Progress: func(done, total uint64) { r.progress("consensus", done, total) },
	})
}

// facts writes what the backup knows of the home that it is from: the backends that the chain
// needs, and the history of the records.
func (r *restoration) facts(log [16]byte) error {
	if len(r.info.Backends) > 0 {
		if err := r.info.Backends.Write(r.home); err != nil {
			return err
		}
	}
	if h := r.info.History; h != nil && h.LogID == r.info.LogID.String() {
		return h.Restored(log, r.info.Last).Write(r.home)
	}
	return nil
}

// snapshot copies the snapshot to the snapshots of the new home, because replay begins with it. The
// source of the copy names the log that the backup is from.
func (r *restoration) snapshot() error {
	m, err := r.manifest()
	if err != nil {
		return err
	}
	from, to := filepath.Join(r.src, backup.SnapshotsName, m.ID), filepath.Join(home.SnapshotDir(r.home), m.ID)
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}

	for _, f := range m.Files {
		if err := r.copy(filepath.Join(from, f.Name), filepath.Join(to, f.Name), 0o600); err != nil {
			return err
		}
	}

	m.Source = fmt.Sprintf("backup of log %v", m.LogID)
	data, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = durable.OS.WriteNew(filepath.Join(to, "snapshot.json"), append(data, '\n'), 0o600)
	}
	if err == nil {
		err = durable.OS.SyncDir(to)
	}
	if err == nil {
		err = durable.OS.SyncDir(filepath.Dir(to))
	}

	return err
}

// log writes the new home's log: a Base, unless the backup has the log from record 1 on, and the
// backup's records. It returns the id of the log.
func (r *restoration) log(ctx context.Context) (id [16]byte, err error) {
	o := eventlog.Options{FirstIndex: 1}
	var batch []eventlog.Record

	if r.info.First > 1 {
		o.FirstIndex = r.info.First - 1
		base, err := r.base()
		if err != nil {
			return id, err
		}
		batch = append(batch, base)
	}

	l, err := eventlog.Open(home.LogDir(r.home), o)
	if err != nil {
		return id, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()

	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		_, err := l.AppendNoSync(ctx, batch...)
		batch, size = batch[:0], 0
		return err
	}

	if err := backup.ReadRecords(ctx, filepath.Join(r.src, backup.LogName), func(e eventlog.Entry) error {
		batch = append(batch, eventlog.Record{Kind: e.Kind, Data: bytes.Clone(e.Data)})
		r.progress("records", e.Index+1-r.info.First, r.info.Last+1-r.info.First)
		if size += len(e.Data); size >= copyBatch {
			return flush()
		}
		return nil
	}); err != nil {
		return id, err
	}

	if err := flush(); err != nil {
		return id, err
	}

	return l.ID(), l.Sync(ctx)
}

// base returns the Base record, which holds the result of the records that the new log does not
// have.
func (r *restoration) base() (eventlog.Record, error) {
	m, err := r.manifest()
	if err != nil {
		return eventlog.Record{}, err
	}
	_, g, err := home.ReadGenesisFile(filepath.Join(r.src, chain.GenesisFile))
	if err != nil {
		return eventlog.Record{}, err
	}
	return chain.NewRecord(&logv1.Base{
		ChainId: m.ChainID, Period: m.Period, Height: m.Height, AppHash: m.AppHash, OriginLogId: m.LogID,
		OriginIndex: m.Index, Params: g.Params,
	})
}

// copyFile copies a file to a new one and syncs the new file. It does not sync the directory.
func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()

	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}

	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// linkFile makes another name of a file that nobody changes. Where it cannot, it copies the file.
func linkFile(from, to string, mode fs.FileMode) error {
	if filepath.Ext(from) == ".sst" && os.Link(from, to) == nil {
		return nil
	}
	return copyFile(from, to, mode)
}
