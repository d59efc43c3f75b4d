package eventlog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// Report describes what Verify found.
type Report struct {
	Recovery // if there is damage, it covers the undamaged segments only
	Records  uint64
	Frames   uint64
	Files    []SegmentStat
	Damage   []*CorruptError // at most one for each file, and one for each gap that a salvage recorded
}

// Verify reads all of a log that nobody is writing, and changes nothing. It checks every frame,
// record, checksum and seal, the chain of seals and the extent. The error joins every *CorruptError
// of the report. A torn tail, which Open would cut, is not damage: see TornBytes. Of the Options,
// Verify uses FS and Events (Progress).
func Verify(dir string, o Options) (Report, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Report{}, err
	}

	start := time.Now()
	in := inspection{fs: o.FS, dir: filepath.Clean(dir), bugs: o.bugs,
		progress: func(done, total int64) { o.Events(Progress{done, total}) }}
	lock, err := in.exclusive()
	if err != nil {
		return Report{}, err
	}
	if lock != nil {
		defer lock.Close()
	}
	if err := in.run(); err != nil {
		return Report{}, err
	}

	rep := Report{Recovery: in.recovery(), Damage: in.damage()}
	for _, g := range rep.Gaps {
		rep.Damage = append(rep.Damage, g.damage())
		rep.Records -= g.count()
	}

	var all []error
	for _, d := range rep.Damage {
		all = append(all, d)
	}

	for _, s := range in.segs {
		if s.scan.next == 0 {
			continue // its header is bad, so its records are not known
		}
		rep.Records += s.scan.next - s.header.FirstIndex
		rep.Frames += s.scan.frames
		rep.Files = append(rep.Files, SegmentStat{File: s.path, Number: s.number, First: s.header.FirstIndex,
			Last: s.scan.next - 1, Bytes: s.scan.end - segment.HeaderSize, Sealed: s.scan.sealed})
	}

	rep.Duration = time.Since(start)

	return rep, errors.Join(all...)
}

// lockIfThere returns the names in the directory, and takes its lock so that nobody writes the log
// meanwhile. The lock is nil if there is no lock file; a copy of a log may lack it.
func (in *inspection) lockIfThere() (names []string, lock io.Closer, err error) {
	names, err = in.fs.List(in.dir)
	if err == nil && slices.Contains(names, lockName) {
		lock, err = in.fs.Lock(filepath.Join(in.dir, lockName))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("eventlog: %w", err)
	}

	return names, lock, nil
}

// exclusive finds the files of an existing log, and locks the log so that nobody writes to it
// meanwhile. The caller closes the lock. The lock is nil if the log has no lock file, as a copy of
// a log may.
func (in *inspection) exclusive() (io.Closer, error) {
	names, lock, err := in.lockIfThere()
	if err != nil {
		return nil, err
	}

	err = in.list()
	if err == nil && len(in.segs) == 0 && !slices.Contains(names, extentName) {
		err = fmt.Errorf("no segments in %s: %w", in.dir, fs.ErrNotExist) // as if the directory were not there
	}
	if err == nil {
		return lock, nil
	}
	if lock != nil {
		lock.Close()
	}

	return nil, fmt.Errorf("eventlog: %w", err)
}
