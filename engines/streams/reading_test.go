package streams

import (
	"context"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
)

// truncated is a log that is truncated as far as it may be, each time somebody opens a cursor.
type truncated struct {
	*rig
	on atomic.Bool
}

func (l *truncated) Cursor(ctx context.Context, from uint64) (*eventlog.Cursor, error) {
	cur, err := l.rig.Cursor(ctx, from)
	if err == nil && l.on.Load() {
		_, err = l.log.Truncate(l.log.Durable())
	}
	return cur, err
}

// level returns a rig with a log of several segments, none of which the stream "out" needs.
func level(t *testing.T) (*rig, *truncated) {
	t.Helper()
	r := newRig(t)
	log := &truncated{rig: r}
	r.opts = func(o *Options) { o.Log = func() (Log, error) { return log, nil } }
	r.start()
	r.define("out", "keep_behind = \"0s\"\n")
	r.up()
	for range 50 {
		r.block(strings.Repeat("k", 4000))
	}
	r.reaches("out")
	require.Eventually(t, func() bool {
		st, err := r.streams.Status("out", Head{}, r.log.Stat())
		return err == nil && st.Floor > r.log.Durable()
	}, 10*time.Second, 10*time.Millisecond)
	r.down()
	require.Greater(t, len(r.log.Stat().Segments), 3)

	return r, log
}

// What reads the log beside a slot reads all that the log had when it began, although the slot
// needs nothing of it and the log is truncated all the time.
func TestAReadingHoldsTheLog(t *testing.T) {
	all := Position{Height: math.MaxUint64}
	for name, read := range map[string]func(*rig, context.Context) error{
		"verify": func(r *rig, ctx context.Context) error {
			report, err := r.streams.Verify(ctx, "out", Position{}, all)
			require.Empty(r.t, report.Findings)
			require.EqualValues(r.t, 51, report.Units)
			return err
		},
		"preview": func(r *rig, ctx context.Context) error {
			return r.streams.Preview(ctx, "out", Position{Height: 40}, func(Event) error { return nil })
		},
		"replay": func(r *rig, ctx context.Context) error {
			r.sinks["copy"] = &place{}
			_, _, err := r.streams.Replay(ctx, "out", Position{}, all, "copy", definition(""))
			require.Len(r.t, r.sinks["copy"].keys(), 50)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, log := level(t)
			log.on.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			require.NoError(t, read(r, ctx))

			for _, held := range r.log.Stat().Retainers {
				require.NotContains(t, held.Name, RetainerPrefix)
			}
			removed, err := r.log.Truncate(r.log.Durable())
			require.NoError(t, err)
			require.Positive(t, removed, "it is released")
		})
	}
}

// What a reading has read is let go: it holds the rest alone.
func TestAReadingLetsGoWhatItHasRead(t *testing.T) {
	r, _ := level(t)
	read, before := 0, r.log.First()
	r.sinks["out"].fail = func(op string) error {
		if op == "read" {
			if read++; read == 100 {
				_, err := r.log.Truncate(r.log.Durable())
				require.NoError(t, err)
			}
		}
		return nil
	}
	r.clean("out")
	require.Greater(t, r.log.First(), before)
	require.Greater(t, read, 100)
}

// The hold of a reading ends with the incarnation of the log. If the next one has lost what it
// reads next, it ends too and says so.
func TestAReadingOfALogThatLosesRecordsEnds(t *testing.T) {
	r, _ := level(t)
	first := true
	r.sinks["out"].fail = func(op string) error {
		if op == "read" && first {
			first = false
			require.NoError(t, r.log.Close())
			r.openLog()
			_, err := r.log.Truncate(r.log.Durable())
			require.NoError(t, err)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := r.streams.Verify(ctx, "out", Position{}, Position{Height: math.MaxUint64})
	require.ErrorContains(t, err, "the log no longer has record")
	require.Equal(t, GapInLog, ClassOf(err))
}

// A sink whose system falls silent while it is read ends a verify, also if it does not obey the end
// of its context. What it passes later is not counted.
func TestAVerifyOfASilentSinkEnds(t *testing.T) {
	r := began(t, "")
	r.down()
	r.opts = func(o *Options) { o.Deadline = 50 * time.Millisecond }
	s, err := New(r.options())
	require.NoError(t, err)

	silent := make(chan struct{})
	reads := 0
	p := r.sinks["out"]
	p.fail = func(op string) error {
		if op == "read" {
			if reads++; reads == 2 {
				<-silent
			}
		}
		return nil
	}
	report, err := s.Verify(t.Context(), "out", Position{}, Position{Height: math.MaxUint64})
	require.ErrorContains(t, err, "the sink passes nothing on")
	require.ErrorIs(t, err, errDeadline)
	require.EqualValues(t, 1, report.Events)

	close(silent)
	p.mu.Lock() // until the reading has ended
	defer p.mu.Unlock()
	require.Equal(t, 2, reads)
	require.EqualValues(t, 1, report.Events)
}

// An operator's act asks a sink whose system is silent for no longer than the deadline, also if the
// sink does not obey the end of its context. What it answers later changes nothing.
func TestAnActOnASilentSinkEnds(t *testing.T) {
	for _, op := range []string{"observe", "open"} {
		t.Run(op, func(t *testing.T) {
			r := began(t, "")
			require.NoError(t, r.streams.Pause("out", "test"))
			r.becomes("out", Paused)
			r.down()
			r.opts = func(o *Options) { o.Deadline = 50 * time.Millisecond }
			s, err := New(r.options())
			require.NoError(t, err)

			silent := make(chan struct{})
			var began atomic.Int32
			ended := make(chan struct{}, 16)
			hang := func(was string) error {
				if was == op {
					began.Add(1)
					<-silent
					ended <- struct{}{}
				}
				return nil
			}
			r.sinks["out"].fail = hang
			other := &place{}
			r.sinks["other"] = other
			other.fail = hang
			text := []byte("kind = \"test\"\n")

			acts := map[string]func() error{
				"rewind": func() error { return s.Rewind(t.Context(), "out", Position{Height: 1}, "test") },
				"replay": func() error {
					_, _, err := s.Replay(t.Context(), "out", Position{Height: 1}, Position{Height: 2}, "other", text)
					return err
				},
			}
			if op == "observe" {
				acts["add"] = func() error { _, err := s.Add(t.Context(), "other", text, true); return err }
			}
			for name, act := range acts {
				require.ErrorIs(t, act(), errDeadline, name)
			}

			close(silent)
			for range began.Load() {
				<-ended
			}
		})
	}
}
