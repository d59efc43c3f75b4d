package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/backends"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/history"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Sizes of the parts of a backup.
const (
	pieceBytes   = 256 << 10 // of a file in one part
	recordsBytes = 512 << 10 // of the records in one part, unless a single record is larger
)

// Prefixes of the names of files in the parts of a backup.
const (
	snapshotPrefix  = "snapshot/"
	consensusPrefix = ConsensusName + "/"
)

// Sender sends a backup of a home in parts. Together, the parts are all that is needed to make
// another home.
type Sender struct {
	Home        string             // its directory
	Snapshots   snapshots.Dir      // the directory of the snapshot
	Manifest    snapshots.Manifest // the snapshot
	First, Last uint64             // the records to send; none if Last is First-1

	Backends backends.Record  // what the home's chain needs
	History  *history.History // of the home's log; nil: it is unknown

	Consensus consensus.Copy // of the files of the home's consensus; nil: it keeps none of its own

	OpenLog func(from uint64) (*eventlog.Cursor, error) // reads the log from a record on
	Send    func(*apiv1.BackupResponse) error           // sends a part
}

// Run sends the backup.
func (b *Sender) Run(ctx context.Context) error {
	m, err := json.Marshal(b.Manifest)
	if err != nil {
		return err
	}

	begin := &apiv1.BackupBegin{
		Snapshot: m, First: b.First, Last: b.Last, LogId: b.Manifest.LogID, Bytes: b.Manifest.Bytes,
		Backends: b.Backends.JSON(), History: b.History.JSON(),
	}
	if b.Consensus != nil {
		facts := b.Consensus.Facts()
		begin.Bytes += facts.Bytes
		if begin.Consensus, err = json.Marshal(facts); err != nil {
			return err
		}
	}
	if err := b.Send(&apiv1.BackupResponse{Part: &apiv1.BackupResponse_Begin{Begin: begin}}); err != nil {
		return err
	}

	for _, name := range []string{chain.GenesisFile, config.FileName} {
		if err := b.file(ctx, name, func() (io.ReadCloser, error) {
			return os.Open(filepath.Join(b.Home, name))
		}); err != nil {
			return err
		}
	}

	if err := b.streams(ctx); err != nil {
		return err
	}

	if b.Consensus != nil { // first, because the consensus cannot clean up while it is copied
		if err := b.Consensus.Send(ctx, func(name string, piece []byte, last bool) error {
			return b.Send(&apiv1.BackupResponse{Part: &apiv1.BackupResponse_File{
				File: &apiv1.BackupFile{Name: consensusPrefix + name, Data: piece, Last: last}}})
		}); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		if err := b.Consensus.Close(); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
	}

	for _, f := range b.Manifest.Files {
		path := b.Snapshots.FS.PathJoin(b.Snapshots.Path, b.Manifest.ID, f.Name)
		if err := b.file(ctx, snapshotPrefix+f.Name, func() (io.ReadCloser, error) {
			return b.Snapshots.FS.Open(path)
		}); err != nil {
			return err
		}
	}

	digest, err := b.records(ctx)
	if err != nil {
		return err
	}

	return b.Send(&apiv1.BackupResponse{Part: &apiv1.BackupResponse_End{End: &apiv1.BackupEnd{Digest: digest}}})
}

// file sends a file in pieces.
func (b *Sender) file(ctx context.Context, name string, open func() (io.ReadCloser, error)) error {
	f, err := open()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer f.Close()

	for last := false; !last; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		piece := make([]byte, pieceBytes)
		n, err := io.ReadFull(f, piece)
		if last = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF); err != nil && !last {
			return fmt.Errorf("backup: reading %s: %w", name, err)
		}

		if err := b.Send(&apiv1.BackupResponse{
			Part: &apiv1.BackupResponse_File{File: &apiv1.BackupFile{Name: name, Data: piece[:n],
				Last: last}}}); err != nil {
			return err
		}
	}

	return nil
}

// records sends the records, and returns their digest.
func (b *Sender) records(ctx context.Context) (digest []byte, err error) {
	sum := newRecordSum()
	part, size := &apiv1.BackupRecords{First: b.First}, 0
	flush := func() error {
		if len(part.Records) == 0 {
			return nil
		}
		err := b.Send(&apiv1.BackupResponse{Part: &apiv1.BackupResponse_Records{Records: part}})
		part, size = &apiv1.BackupRecords{First: part.First + uint64(len(part.Records))}, 0
		return err
	}

	for e, err := range chain.Records(b.OpenLog, b.First, b.Last) {
		if err := cmp.Or(err, context.Cause(ctx)); err != nil {
			return nil, fmt.Errorf("backup: record %d: %w", e.Index, err)
		}

		sum.add(uint8(e.Kind), e.Data)
		part.Records = append(part.Records,
			&apiv1.BackupRecord{Kind: uint32(e.Kind), Data: append([]byte(nil), e.Data...)})

		if size += len(e.Data); size >= recordsBytes {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}

	return sum.h.Sum(nil), flush()
}

// recordSum is the digest of a backup's records.
type recordSum struct{ h hash.Hash }

// newRecordSum returns a digest to which no record was added yet.
func newRecordSum() recordSum { return recordSum{sha256.New()} }

// add adds the next record to the digest.
func (s recordSum) add(kind uint8, data []byte) {
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(data)))
	s.h.Write(head[:])
	s.h.Write(data)
}

// EachRecord calls f for the records from first to last that the log has. An entry is valid only
// during the call of f.
func EachRecord(ctx context.Context, l *eventlog.Log, first, last uint64, f func(eventlog.Entry) error) error {
	for e, err := range chain.Records(l.Cursor, first, min(last, l.Durable())) {
		if err := cmp.Or(err, context.Cause(ctx)); err != nil {
			return err
		}
		if err := f(e); err != nil {
			return err
		}
	}

	return nil
}

// ReadRecords calls f for all records of the log in dir. An entry is valid only during the call of
// f.
func ReadRecords(ctx context.Context, dir string, f func(eventlog.Entry) error) error {
	l, err := eventlog.OpenReadOnly(dir, eventlog.Options{})
	if err != nil {
		return err
	}
	defer l.Close()
	return EachRecord(ctx, l, l.First(), l.Durable(), f)
}
