package eventlog_test

import (
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/eventlog/internal/vfs"
)

// build makes a log of records 51 to 350 with a gap in it.
func build(disk *vfs.Disk) error {
	o := small(disk)
	o.FirstIndex, o.MaxBatch = 51, 600
	b, err := eventlog.NewBuilder(logDir, o)
	if err != nil {
		return err
	}

	for b.Next() <= 350 && err == nil {
		if b.Next() == 200 {
			err = b.Lost(40, "for the test")
		} else {
			err = b.Append(recordAt(b.Next()))
		}
	}

	if err != nil {
		return errors.Join(err, b.Abort())
	}

	return b.Finish()
}

func judgeBuilt(disk *vfs.Disk) error {
	l, err := eventlog.OpenReadOnly(logDir, small(disk))
	if err != nil {
		return err
	}
	defer l.Close()

	records, gaps, err := readAround(l)
	if err == nil && (records != 260 || len(gaps) != 1 || gaps[0].First != 200 || gaps[0].Last != 239 ||
		l.First() != 51 || l.Durable() != 350) {
		err = errors.New("not the log that was built")
	}

	return err
}

// TestBuilder: a log that is built is there whole or not at all, at whatever moment the power fails
// or an operation fails.
func TestBuilder(t *testing.T) {
	disk := vfs.NewDisk()
	rng := rand.New(rand.NewPCG(1, 10))
	found := 0
	var one sync.Mutex // a spare segment is prepared beside the writes
	disk.After = func(op vfs.Op) {
		if op.N%7 != 0 && op.Kind == vfs.Write {
			return
		}

		one.Lock()
		defer one.Unlock()

		d := disk.Crash(rng, rng.IntN(101))
		if names, err := d.List(logDir); err == nil && len(names) > 0 {
			found++
			if err := judgeBuilt(d); err != nil {
				t.Errorf("crash at %v: %v", op, err)
			}
		}
	}
	require.NoError(t, build(disk))
	require.NotZero(t, found)
	disk.After = nil
	require.NoError(t, judgeBuilt(disk.Crash(rng, 0)))
	require.ErrorIs(t, build(disk), fs.ErrExist)

	for n := range disk.Ops() {
		d := vfs.NewDisk()
		d.Before = func(op vfs.Op) vfs.Fault {
			if op.N == n {
				return vfs.Fault{Err: syscall.EIO}
			}
			return vfs.Fault{}
		}
		err := build(d)
		d.Before = nil

		if names, lerr := d.List(logDir); lerr == nil && len(names) > 0 {
			require.NoError(t, judgeBuilt(d), "fault at operation %d", n)
		} else {
			require.ErrorIs(t, err, syscall.EIO, "fault at operation %d", n)
		}
	}
}

// A Builder that was killed leaves no log, and does not block the next Builder. A file that is not
// part of a log is not touched.
func TestABuilderClearsWhatAKilledOneLeft(t *testing.T) {
	disk := vfs.NewDisk()
	first, err := eventlog.NewBuilder("new", small(disk))
	require.NoError(t, err)
	require.NoError(t, first.Append(recordAt(1)))
	_, err = eventlog.NewBuilder("new", small(disk))
	require.ErrorIs(t, err, eventlog.ErrLocked, "the first one is at work")
	killed := disk.Crash(newRand(1), 100)
	require.NotEmpty(t, killed.Files("new.building", ".seg"))
	second, err := eventlog.NewBuilder("new", small(killed))
	require.NoError(t, err)
	require.NoError(t, second.Append(recordAt(1)))
	require.NoError(t, second.Finish())
	require.NoError(t, first.Abort())

	f, err := killed.Create("other.building/notes.txt")
	if err != nil {
		require.NoError(t, killed.MkdirAll("other.building"))
		f, err = killed.Create("other.building/notes.txt")
	}

	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = eventlog.NewBuilder("other", small(killed))
	require.ErrorContains(t, err, "notes.txt, which is not part of a log")
}

// TestIndexesEnd: indexes that would overflow are refused before anything is written.
func TestIndexesEnd(t *testing.T) {
	disk := vfs.NewDisk()
	o := small(disk)
	o.FirstIndex = math.MaxUint64 - 3
	_, err := eventlog.Open(logDir, o)
	require.ErrorContains(t, err, "FirstIndex")
	b, err := eventlog.NewBuilder(logDir, small(disk))
	require.NoError(t, err)
	require.ErrorContains(t, b.Lost(math.MaxUint64, "an untrusted count"), "records")
	require.NoError(t, b.Abort())
}
