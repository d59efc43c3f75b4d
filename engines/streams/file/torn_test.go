package file

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
)

// feed is a delivery of whole units with all credit.
type feed struct{ events []streams.Event }

func (f *feed) Next(context.Context) (streams.Event, error) {
	if len(f.events) == 0 {
		return streams.Event{}, io.EOF
	}
	e := f.events[0]
	f.events = f.events[1:]
	return e, nil
}

func (*feed) Credit(int) {}

func deliver(units ...sinktest.Unit) *feed {
	f := &feed{}
	for _, u := range units {
		f.events = append(f.events, u...)
	}
	return f
}

func open(t *testing.T, f streams.Factory, dir string, epoch uint64) (streams.Sink, streams.Cursor, error) {
	t.Helper()
	s, err := f.New(definition(t, dir), streams.Secrets{})
	require.NoError(t, err)
	c, err := s.Open(t.Context(), streams.Opening{Epoch: epoch, Definition: "d", Holder: "test"})
	return s, c, err
}

// Item 31: wherever the last write is cut, the sink stands after a whole unit, and goes on there.
func TestEveryTornTailRecovers(t *testing.T) {
	units := sinktest.Units(1, 6)
	whole := filepath.Join(t.TempDir(), "whole")
	s, _, err := open(t, Factory(), whole, 1)
	require.NoError(t, err)
	require.NoError(t, s.Write(t.Context(), deliver(units[:4]...)))
	acked, err := os.Stat(fileName(whole, 1))
	require.NoError(t, err)
	require.NoError(t, s.Write(t.Context(), deliver(units[4:]...)))
	require.NoError(t, s.Close(t.Context()))
	content, err := os.ReadFile(fileName(whole, 1))
	require.NoError(t, err)

	dir := filepath.Join(t.TempDir(), "torn")
	require.NoError(t, os.Mkdir(dir, 0o700))
	step := int64(23)
	if os.Getenv("COPPICE_SOAK") != "" {
		step = 1
	}
	tails := []string{"", "\x00\x00", "{\"seq\":"}
	for n, cut := 0, acked.Size(); cut <= int64(len(content)); n, cut = n+1, cut+step {
		for _, tail := range tails[n%3:][:1] {
			require.NoError(t, os.WriteFile(fileName(dir, 1), append(content[:cut:cut], tail...), 0o600))
			s, c, err := open(t, Factory(), dir, 2)
			require.NoError(t, err, "cut at %d", cut)
			require.GreaterOrEqual(t, c.Height, units[3].Position().Height, "cut at %d", cut)

			if n%5 == 0 {
				require.NoError(t, s.Write(t.Context(), deliver(units...)), "cut at %d", cut)
				again, err := s.Observe(t.Context())
				require.NoError(t, err)
				require.Equal(t, units[6].Position(), again.Position)
			}
			require.NoError(t, s.Close(t.Context()))
		}
	}
}

// A flipped bit below what was durable is damage, and named; nothing is cut.
func TestDamageIsToldFromATornTail(t *testing.T) {
	units := sinktest.Units(2, 6)
	dir := filepath.Join(t.TempDir(), "out")
	s, _, err := open(t, Factory(), dir, 1)
	require.NoError(t, err)
	for _, u := range units {
		require.NoError(t, s.Write(t.Context(), deliver(u)))
	}
	require.NoError(t, s.Close(t.Context()))
	content, err := os.ReadFile(fileName(dir, 1))
	require.NoError(t, err)

	content[len(content)/3] ^= 0x40
	require.NoError(t, os.WriteFile(fileName(dir, 1), content, 0o600))
	_, _, err = open(t, Factory(), dir, 2)
	require.ErrorContains(t, err, "is damaged at offset")
	require.Equal(t, streams.Misconfigured, streams.ClassOf(err))
	after, err := os.ReadFile(fileName(dir, 1))
	require.NoError(t, err)
	require.Equal(t, content, after)
}

// badDisk fails the n-th write, sync or truncation from now, and all after it.
type badDisk struct {
	osFS
	left *int
}

type badFile struct {
	File
	left *int
}

var errDisk = errors.New("the disk failed")

func (d badDisk) Create(name string) (File, error) {
	f, err := d.osFS.Create(name)
	return badFile{f, d.left}, err
}

func (d badDisk) Open(name string, write bool) (File, error) {
	f, err := d.osFS.Open(name, write)
	if err != nil {
		return nil, err
	}
	return badFile{f, d.left}, nil
}

func (f badFile) fails() bool { *f.left--; return *f.left < 0 }

func (f badFile) WriteAt(b []byte, off int64) (int, error) {
	if f.fails() {
		n, _ := f.File.WriteAt(b[:len(b)/2], off)
		return n, errDisk
	}
	return f.File.WriteAt(b, off)
}

func (f badFile) Sync() error {
	if f.fails() {
		return errDisk
	}
	return f.File.Sync()
}

// After a failed write or sync nothing is acknowledged by the same opening, and the next one goes
// on at the next whole unit. Item 70: acknowledgment before the flush.
func TestAFailedWriteIsNotAcknowledged(t *testing.T) {
	units := sinktest.Units(3, 6)
	for n := range 12 {
		left := n
		dir := filepath.Join(t.TempDir(), "out")
		bad := factory(badDisk{left: &left}, 2000)

		acked := -1
		s, _, err := open(t, bad, dir, 1)
		for i := 0; err == nil && i < len(units); i++ {
			if err = s.Write(t.Context(), deliver(units[i])); err == nil {
				acked = i
			}
		}
		if err != nil {
			require.ErrorIs(t, err, errDisk)
			require.Error(t, s.Write(t.Context(), deliver(units[max(acked, 0):]...)))
		}
		s.Close(t.Context())

		left = 1 << 30
		s, c, err := open(t, bad, dir, 2)
		require.NoError(t, err)
		if acked >= 0 {
			require.GreaterOrEqual(t, c.Height, units[acked].Position().Height)
		}
		require.NoError(t, s.Write(t.Context(), deliver(units...)))
		c, err = s.Observe(t.Context())
		require.NoError(t, err)
		require.Equal(t, units[6].Position(), c.Position)
		require.NoError(t, s.Close(t.Context()))
	}
}
