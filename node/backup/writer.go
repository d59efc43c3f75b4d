package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/backends"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/history"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Writer makes a backup from the parts that a Sender sends. One goroutine may use it at a time.
type Writer struct {
	Dest string // the absolute path of the backup

	tmp      string // the directory in which the backup is made
	release  func() // gives up the claim to Dest; nil: it is given up
	token    []byte
	progress func(step string, done, total uint64)
	prove    func(ctx context.Context, dir string) error
	info     Info
	manifest snapshots.Manifest

	log   *eventlog.Log // nil until the first part, and after Finish
	next  uint64        // the record that must come next
	sum   recordSum     // of the records so far
	ended bool          // the last part has come

	file    *os.File // the file whose pieces are coming; nil: none
	name    string   // of file
	written int64    // bytes of all files so far
	total   int64    // bytes of all files, approximately
	whole   []string // files of the consensus that are complete
}

// NewWriter begins a backup in dest, which must be vacant (see RequireVacant). Until Finish, the
// backup is in a directory beside dest, whose name is that of dest with PartialSuffix. Errors are
// exit.ErrConfig, and exit.ErrHomeInUse if another backup is being written to dest.
func NewWriter(dest string, o Options) (*Writer, error) {
	dest, tmp, release, err := Claim(dest, PartialSuffix, "backup")
	if err != nil {
		return nil, err
	}

	w := &Writer{Dest: dest, tmp: tmp, release: release, progress: o.ProgressFunc(), prove: o.prove,
		sum: newRecordSum(), token: o.Token}
	w.info = Info{Format: formatDigests, Program: o.Program, Created: time.Now().UTC().Truncate(time.Millisecond),
		Token: len(o.Token) > 0}

	if err := os.Mkdir(w.tmp, 0o700); err != nil {
		release()
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	return w, nil
}

// RequireVacant returns path as an absolute path. It returns an error if path exists and is not an
// empty directory.
func RequireVacant(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return path, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	names, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	case err != nil:
		return path, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	case len(names) > 0:
		return path, fmt.Errorf("%w: %s is not empty: want a directory that does not exist, or an empty one",
			exit.ErrConfig, path)
	}

	return path, nil
}

// Abandon removes a backup that was not finished. After a successful Finish it does nothing.
func (w *Writer) Abandon() {
	if w.release == nil {
		return
	}
	if w.file != nil {
		w.file.Close()
	}
	if w.log != nil {
		w.log.Close() // the log is removed: an error does not matter
	}
	os.RemoveAll(w.tmp)
	w.release()
	w.release = nil
}

// Take takes the next part of the backup.
func (w *Writer) Take(part *apiv1.BackupResponse) error {
	switch p := part.Part.(type) {
	case *apiv1.BackupResponse_Begin:
		return w.begin(p.Begin)

	case *apiv1.BackupResponse_File:
		return w.piece(p.File)

	case *apiv1.BackupResponse_Records:
		return w.records(p.Records)

	case *apiv1.BackupResponse_End:
		if digest := w.sum.h.Sum(nil); !bytes.Equal(digest, p.End.Digest) || w.next != w.info.Last+1 {
			return fmt.Errorf("backup: the records up to %d have digest %x, want %x up to %d", w.next-1, digest,
				p.End.Digest, w.info.Last)
		}
		w.info.Digest, w.ended = p.End.Digest, true
		return nil
	}
	return fmt.Errorf("backup: unknown part %T: the node runs another version of coppice", part.Part)
}

// begin takes the first part, which describes the backup.
func (w *Writer) begin(b *apiv1.BackupBegin) (err error) {
	if w.log != nil {
		return errors.New("backup: got a second beginning")
	}
	if w.manifest, err = snapshots.ParseManifest(b.Snapshot); err != nil {
		return err
	}

	m := w.manifest
	w.info.Snapshot, w.info.Bytes = m.ID, m.Bytes
	w.info.ChainID, w.info.Period, w.info.Height, w.info.AppHash = m.ChainID, m.Period, m.Height, m.AppHash
	w.info.LogID, w.info.First, w.info.Last = b.LogId, b.First, b.Last
	w.next, w.total = b.First, b.Bytes

	if len(b.Backends) > 0 {
		if w.info.Backends, err = backends.Parse(backends.FileName, b.Backends); err != nil {
			return err
		}
	}
	if len(b.History) > 0 {
		if w.info.History, err = history.Parse(b.History); err != nil {
			return err
		}
	}

	if len(b.Consensus) > 0 {
		if err := w.beginConsensus(b.Consensus); err != nil {
			return err
		}
	}

	if b.First == 0 || b.First > m.Index+1 || b.Last+1 < b.First {
		return fmt.Errorf("backup: records %d to %d do not follow snapshot %s", b.First, b.Last, m.ID)
	}

	if err := os.MkdirAll(filepath.Join(w.tmp, SnapshotsName, w.manifest.ID), 0o700); err != nil {
		return err
	}

	w.log, err = eventlog.Open(filepath.Join(w.tmp, LogName), eventlog.Options{FirstIndex: b.First})
	return err
}

// beginConsensus takes what the backup has of the consensus.
func (w *Writer) beginConsensus(data []byte) error {
	w.info.Consensus = new(consensus.Facts)
	if err := json.Unmarshal(data, w.info.Consensus); err != nil {
		return fmt.Errorf("backup: the files of the consensus: %w", err)
	}
	for _, name := range w.info.Consensus.Files {
		if !plainName(name) {
			return fmt.Errorf("backup: file %q of the consensus does not belong in a backup", name)
		}
	}
	w.info.Format = formatConsensus
	return os.MkdirAll(filepath.Join(w.tmp, ConsensusName), 0o700)
}

// path returns the path of a file of the backup. It returns an error for a name that does not
// belong in a backup.
func (w *Writer) path(name string) (string, error) {
	if name == chain.GenesisFile || name == config.FileName {
		return filepath.Join(w.tmp, name), nil
	}
	if base, ok := strings.CutPrefix(name, consensusPrefix); ok && w.info.Consensus != nil &&
		slices.Contains(w.info.Consensus.Files, base) {
		return filepath.Join(w.tmp, ConsensusName, base), nil
	}

	if base, ok := strings.CutPrefix(name, streamsPrefix); ok && isStreamsFile(base) {
		return w.streamsPath(base)
	}

	base, ok := strings.CutPrefix(name, snapshotPrefix)
	for _, f := range w.manifest.Files {
		if ok && f.Name == base && filepath.IsLocal(base) && filepath.Base(base) == base {
			return filepath.Join(w.tmp, SnapshotsName, w.manifest.ID, base), nil
		}
	}

	return "", fmt.Errorf("backup: file %q does not belong in a backup", name)
}

// piece takes the next piece of a file.
func (w *Writer) piece(p *apiv1.BackupFile) (err error) {
	if w.file == nil {
		path, err := w.path(p.Name)
		if err != nil {
			return err
		}
		if w.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
		w.name = p.Name
	}

	if p.Name != w.name {
		return fmt.Errorf("backup: got a piece of %q in the middle of %q", p.Name, w.name)
	}
	if _, err := w.file.Write(p.Data); err != nil {
		return err
	}

	w.written += int64(len(p.Data))
	w.progress("copy", uint64(w.written), uint64(max(w.written, w.total)))
	if !p.Last {
		return nil
	}

	f := w.file
	w.file = nil
	if base, ok := strings.CutPrefix(p.Name, consensusPrefix); ok {
		w.whole = append(w.whole, base)
	}

	return errors.Join(f.Sync(), f.Close())
}

// records takes the next records.
func (w *Writer) records(p *apiv1.BackupRecords) error {
	if w.log == nil || p.First != w.next {
		return fmt.Errorf("backup: got records from %d on, want %d", p.First, w.next)
	}

	recs := make([]eventlog.Record, len(p.Records))

	for i, r := range p.Records {
		recs[i] = eventlog.Record{Kind: eventlog.Kind(r.Kind), Data: r.Data}
		w.sum.add(uint8(r.Kind), r.Data)

		if recs[i].Kind == chain.KindBlockCommitted && w.next+uint64(i) > w.manifest.Index {
			m, err := chain.DecodeRecord(eventlog.Entry{Index: w.next + uint64(i), Kind: recs[i].Kind, Data: r.Data})
			if err != nil {
				return err
			}
			b := m.(*logv1.BlockCommitted)
			w.info.ChainID, w.info.Period, w.info.Height, w.info.AppHash = b.ChainId, b.Period, b.Height, b.AppHash
		}
	}

	if _, err := w.log.AppendNoSync(context.Background(), recs...); err != nil {
		return err
	}

	w.next += uint64(len(recs))
	w.progress("records", w.next-w.info.First, w.info.Last+1-w.info.First)

	return nil
}

// Finish proves that the backup is whole (see Options.Prove) and moves it to its destination.
func (w *Writer) Finish(ctx context.Context) (Info, error) {
	if !w.ended || w.file != nil || w.info.Consensus != nil && !slices.Equal(w.whole, w.info.Consensus.Files) {
		return w.info, errors.New("backup: it is not complete")
	}
	if err := w.log.Close(); err != nil {
		return w.info, err
	}

	w.log = nil

	if w.info.Token {
		if err := durable.OS.WriteNew(filepath.Join(w.tmp, api.TokenFileName), w.token, 0o600); err != nil {
			return w.info, err
		}
	}

	dir := filepath.Join(w.tmp, SnapshotsName, w.manifest.ID)
	data, err := json.MarshalIndent(w.manifest, "", "  ")
	if err == nil {
		err = durable.OS.WriteNew(filepath.Join(dir, "snapshot.json"), append(data, '\n'), 0o600)
	}
	if err == nil {
		data, err = w.seal(ctx)
	}
	if err == nil {
		err = durable.OS.WriteNew(filepath.Join(w.tmp, FileName), data, 0o600)
	}
	if err == nil {
		err = w.prove(ctx, w.tmp)
	}

	dirs := []string{dir, filepath.Dir(dir), w.tmp}
	if w.info.Consensus != nil {
		dirs = append(dirs, filepath.Join(w.tmp, ConsensusName))
	}
	for _, d := range dirs {
		if err == nil {
			err = durable.OS.SyncDir(d)
		}
	}

	if err == nil {
		if err = durable.OS.Rename(w.tmp, w.Dest); err == nil {
			w.release()
			w.release = nil
		}
	}

	return w.info, err
}
