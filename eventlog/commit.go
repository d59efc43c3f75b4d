package eventlog

import (
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"time"

	"github.com/coppice-go/coppice/eventlog/segment"
)

// firstSegmentSize is the size, in bytes, of the first segment after Open. Each later segment is
// four times as large as the one before, up to Options.SegmentSize. Every segment is filled with
// zeros before it is used, so this is the disk space that a small log takes.
const firstSegmentSize = 1 << 20

// startSyncEvery is how much, in bytes, may be written without a sync before the disk is asked to
// begin writing it. Otherwise the next sync, at the end of a segment for example, would find all of
// that work still to do.
const startSyncEvery = 1 << 20

// keepBuffer is the largest batch buffer, in bytes, that is kept for the next batch.
const keepBuffer = 2 * DefaultMaxBatch

// position is the end of the newest sealed segment.
type position struct {
	number uint64
	seal   segment.Seal
}

// writer is the state of the log's end, as the committer knows it.
type writer struct {
	id       [16]byte
	next     uint64     // index of the next record to be written
	prev     position   // the newest sealed segment
	target   int64      // size that the next segment should have
	buf      []byte     // of the last batch, to be used again
	expected int        // number of calls in the last batch that synced
	later    []callback // of the batches since the last sync

	// The segment being written. These fields are unset between a seal and the first frame after
	// it.
	file     File
	seg      *seg
	off      int64 // of the next frame
	synced   int64 // all before it is durable
	started  int64 // all before it is at least on its way to the disk
	capacity int64 // roll before a frame would go past it
	unsynced int   // frames written since the last sync
	ask      int64 // offset at which more of the next segment's file is asked for
}

// sealed is an encoded seal frame and the Seal that describes it.
type sealed struct {
	segment.Seal
	bytes []byte
}

// sealFrame returns the seal of a segment whose frames end at offset. next is the index after the
// last record.
func sealFrame(seed segment.Seed, offset int64, next uint64) sealed {
	b := segment.Finish(make([]byte, segment.FrameHeaderSize), seed, offset,
		segment.Frame{First: next, Flags: segment.FlagSeal, Synced: uint64(offset)})
	f, _, _ := segment.DecodeHeaderAt(b, seed, offset)
	return sealed{segment.Seal{Offset: uint64(offset), CRC: f.CRC}, b}
}

// writeAt writes all of b. It returns an error if f writes fewer bytes, even if f reports none.
func writeAt(f File, b []byte, off int64) error {
	n, err := f.WriteAt(b, off)
	if err == nil && n != len(b) {
		err = fmt.Errorf("%w: %d of %d bytes at offset %d", io.ErrShortWrite, n, len(b), off)
	}
	return err
}

// writeSync writes all of b and makes it durable.
func writeSync(f File, b []byte, off int64) error {
	if err := writeAt(f, b, off); err != nil {
		return err
	}
	return f.Sync()
}

// publish writes b to the beginning of f, and then renames f from tmp to path. Each step is durable
// before the next begins, so after a crash a file at path always begins with b.
func (l *Log) publish(f File, b []byte, tmp, path string) error {
	if err := writeSync(f, b, 0); err != nil {
		return err
	}
	if err := l.opts.FS.Rename(tmp, path); err != nil {
		return err
	}
	return l.syncNames()
}

// commitLoop runs the committer. Frames are written by the committer only, or, while it sleeps, by
// an appender that does its work (see lead).
func (l *Log) commitLoop() {
	defer close(l.stopped)

	for {
		b := l.take()
		if b == nil {
			break
		}
		l.process(b)
	}

	err := l.failure()
	if err == nil {
		wrote := l.w.file != nil
		if err = l.seal(); err != nil {
			err = l.fail(err)
		} else if wrote {
			err = l.changeExtent(ended(l.w.prev, l.w.next))
		}
	}

	for _, f := range l.w.later { // the seal has made them durable
		f.done(f.first, err)
	}
	l.closeErr = l.release(err)
}

// process commits a batch and reports the outcome to its appenders. The goroutine that runs process
// owns l.w.
func (l *Log) process(b *batch) {
	err := l.commit(b)
	if err != nil {
		err = l.fail(err)
	}

	if err == nil && !b.sync {
		l.w.later = append(l.w.later, b.funcs...)
		b.funcs = nil
	} else if len(l.w.later) > 0 {
		b.funcs = append(l.w.later, b.funcs...)
		l.w.later = nil
	}
	b.finish(err)
	l.recycleBuffer(b)

	if err == nil && l.w.synced == l.w.off {
		if l.w.unsynced > 1 {
			l.mark()
		}
		l.w.unsynced = 0
	}
}

// lead does the committer's work once, for an appender that finds the committer asleep. Meanwhile
// idle is false, so nobody wakes the committer, and l.w belongs to the leader until it sets idle
// again or wakes the committer itself. mu is held on entry and return, but not during the work.
func (l *Log) lead() {
	l.idle = false
	b := l.grab()
	l.mu.Unlock()

	l.process(b)

	l.mu.Lock()
	l.writing = 0
	l.idle = true
	if l.cur.calls > 0 || l.closing {
		l.wakeCommitter()
	}
}

// take waits for a batch and takes it. It returns nil when the log is closing and nothing is left.
func (l *Log) take() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.writing = 0
	l.linger()

	for l.cur.calls == 0 {
		if l.closing {
			return nil
		}
		l.idle = true
		l.mu.Unlock()
		<-l.wake
		l.mu.Lock()
	}

	return l.grab()
}

// grab takes the batch that is filling, once it has stopped growing. mu is held, except while
// yielding.
func (l *Log) grab() *batch {
	l.gather()
	b := l.cur
	l.writing = int64(len(b.buf))
	l.cur = newBatch(l.w.buf)
	l.w.buf = nil
	l.cur.first = l.next
	l.makeRoom()
	return b
}

// linger yields a few times before the committer goes to sleep. An appender that has just been told
// that a record is durable often appends the next one at once, and then nobody has to be woken. mu
// is held, except while yielding.
func (l *Log) linger() {
	for range lingerYields {
		if l.cur.calls > 0 || l.closing {
			return
		}
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
	}
}

const lingerYields = 16

// gather yields to appenders until the batch stops growing. Appenders that the last sync set free
// are about to append again. If a write and a sync began for the first of them, all the others
// would wait for a second sync. gather never waits for a lone appender. mu is held, except while
// yielding.
func (l *Log) gather() {
	if !l.cur.sync || l.closing {
		return
	}

	if l.cur.calls > 1 || l.w.expected > 1 {
		for quiet := 0; quiet < gatherQuiet && int64(len(l.cur.buf)) < l.opts.MaxBatch; {
			before := l.cur.calls
			l.mu.Unlock()
			runtime.Gosched()
			l.mu.Lock()

			switch {
			case l.cur.calls != before:
				quiet = 0
			case l.cur.calls >= l.w.expected:
				quiet = gatherQuiet // as many as last time, and none was added
			default:
				quiet++
			}
		}
	}

	l.w.expected = l.cur.calls
}

// gatherQuiet is the number of yields without another appender after which gather stops waiting for
// as many calls as last time.
const gatherQuiet = 8

// recycleBuffer keeps a batch's buffer for another batch. Only the committer ever reads that
// buffer.
func (l *Log) recycleBuffer(b *batch) {
	if cap(b.buf) <= keepBuffer {
		l.w.buf = b.buf
	}
	b.buf = nil
}

// commit writes a batch as one frame. If a call of the batch waits for durability, commit then
// syncs, which makes this frame and everything before it durable.
func (l *Log) commit(b *batch) error {
	if err := l.failure(); err != nil {
		return err
	}

	w := &l.w
	if b.count > 0 || b.flags != 0 {
		size := segment.FrameSize(len(b.buf) - segment.FrameHeaderSize)
		if w.file != nil && w.off > segment.HeaderSize && w.off+size+segment.FrameHeaderSize > w.capacity {
			if err := l.seal(); err != nil {
				return err
			}
		}

		if w.file == nil {
			if err := l.begin(size); err != nil {
				return err
			}
		}

		b.buf = segment.Finish(b.buf, w.seg.seed, w.off,
			segment.Frame{First: b.first, Count: b.count, Flags: b.flags, Synced: uint64(w.synced)})

		if err := writeAt(w.file, b.buf, w.off); err != nil {
			return err
		}

		w.seg.noteFrame(b.first, w.off)

		w.off += size
		if w.off-w.started >= startSyncEvery && !b.sync {
			if f, ok := w.file.(StartSyncer); ok {
				go f.StartSync(w.started, w.off-w.started) // for a MiB, this call takes as long as the write did
			}
			w.started = w.off
		}

		w.next = b.first + uint64(b.count)
		w.unsynced++
		l.frames.Add(1)
	}

	if b.sync {
		if err := l.sync(); err != nil {
			return err
		}
	}

	if w.file != nil && w.off >= w.ask {
		l.prepareNext()
	}

	return nil
}

// prepareNext asks for a little more of the next segment's file to be filled. The whole file is
// filled by the time that three quarters of the present segment are used.
func (l *Log) prepareNext() {
	w := &l.w
	start, end := w.capacity/4, w.capacity/4*3
	part := float64(min(w.off, end)-start) / float64(end-start)
	l.spares.prepare(w.target, int64(part*float64(w.target))+fillChunk)
	w.ask = max(w.off, start) + max((end-start)*fillChunk/w.target, 4<<10)
	if w.off >= end {
		w.ask = math.MaxInt64
	}
}

// sync makes everything that was written durable, and shows it to readers.
func (l *Log) sync() error {
	w := &l.w
	if w.file == nil || w.synced == w.off {
		return nil
	}

	began := time.Now()
	if err := w.file.Sync(); err != nil {
		return err
	}
	if err := l.checkLock(); err != nil {
		return err // durable, but where nobody would find it: it must not be acknowledged
	}

	l.opts.Synced(time.Since(began))
	l.syncs.Add(1)
	w.synced, w.started = w.off, w.off
	w.seg.next.Store(w.next)
	w.seg.end.Store(w.off)
	l.durable.Store(w.next - 1)
	l.news.wake()

	return nil
}

// mark writes a frame without records after a sync that covered several frames. It tells recovery
// that they are durable, so that damage in one of them is not taken for a torn write. The mark
// itself is not synced, because losing it loses no record. After a sync of one frame no mark is
// written: the next frame says the same.
func (l *Log) mark() {
	w := &l.w
	b := segment.Finish(make([]byte, segment.FrameHeaderSize), w.seg.seed, w.off,
		segment.Frame{First: w.next, Flags: segment.FlagMark, Synced: uint64(w.synced)})
	if err := writeAt(w.file, b, w.off); err != nil {
		l.fail(err)
		return
	}

	w.off += segment.FrameHeaderSize
}

// seal ends the segment being written, if there is one. Everything before the seal is durable
// before the seal is written, so a seal always proves what precedes it.
func (l *Log) seal() error {
	w := &l.w
	if w.file == nil {
		return nil
	}
	if err := l.sync(); err != nil {
		return err
	}

	s := sealFrame(w.seg.seed, w.off, w.next)
	if err := writeSync(w.file, s.bytes, w.off); err != nil {
		return err
	}

	w.seg.sealed.Store(true)
	w.prev = position{w.seg.number, s.Seal}

	err := w.file.Close()
	w.file, w.seg = nil, nil
	return err
}

// begin makes the next segment, for a first frame of size bytes. The file has its header, durable,
// before it gets a segment's name. The name is durable before the extent mentions the segment, and
// the extent is durable before the first frame is written.
func (l *Log) begin(size int64) error {
	w := &l.w
	if err := l.checkLock(); err != nil {
		return err
	}

	h := segment.Header{ID: w.id, Number: w.prev.number + 1, FirstIndex: w.next, PrevSeal: w.prev.seal}
	sp, err := l.spares.take()
	if err != nil {
		return err
	}

	h.Recycled = sp.recycled
	w.file = sp.file
	path := segPath(l.dir, h.Number)
	if err := l.publish(w.file, h.Append(nil), sp.path, path); err != nil {
		return err
	}
	if err := l.reach(h); err != nil {
		return err
	}

	w.seg = &seg{number: h.Number, first: h.FirstIndex, path: path}
	if !l.opts.bugs.noSeed {
		w.seg.seed = h.Seed()
	}

	w.seg.end.Store(segment.HeaderSize)
	w.seg.next.Store(h.FirstIndex)
	w.off, w.synced, w.started = segment.HeaderSize, segment.HeaderSize, segment.HeaderSize
	w.unsynced = 0
	w.capacity = max(w.target, segment.HeaderSize+size+segment.FrameHeaderSize)
	w.ask = w.capacity / 4
	w.target = min(w.target*4, l.opts.SegmentSize)
	l.addSegment(w.seg)
	l.emit(Rolled{File: path, Number: h.Number, FirstIndex: h.FirstIndex, Recycled: sp.recycled, Prepared: sp.size > 0})

	return nil
}

// reach makes the extent mention a segment that was begun.
func (l *Log) reach(h segment.Header) error {
	switch {
	case h.Number == 1:
		e := segment.Extent{ID: h.ID, First: 1, FirstIndex: h.FirstIndex}
		reached(h)(&e)
		return l.createExtent(e)
	case l.opts.bugs.noExtent:
		return nil
	}
	return l.changeExtent(reached(h))
}

// fail makes the failure sticky, unless the log has failed already, and returns the failure that
// stands.
func (l *Log) fail(cause error) error {
	err := cause
	if !errors.Is(cause, ErrFailed) {
		err = fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	if !l.failed.CompareAndSwap(nil, &err) {
		return l.failure()
	}

	l.mu.Lock()
	l.makeRoom()
	l.mu.Unlock()

	l.news.wake()
	l.emit(Failed{err})

	return err
}
