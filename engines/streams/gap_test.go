package streams

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// gaps are the ways in which a log can lack blocks. Each leaves a log that goes on with height 11,
// behind a sink that has height 2.
var gaps = map[string]func(r *rig){
	"SnapshotInstalled": func(r *rig) {
		r.append(&logv1.SnapshotInstalled{ChainId: "c", Height: 10, AppHash: []byte("app10")})
		r.height = 10
		r.block("k")
	},
	"Base": func(r *rig) {
		r.anew()
		r.append(&logv1.Base{ChainId: "c", Height: 10, AppHash: []byte("app10")})
		r.height = 10
		r.block("k")
	},
	"gap frame": func(r *rig) {
		for r.height < 10 {
			r.block("damaged")
		}
		r.block("k")
		r.salvage("damaged")
	},
	"a log that begins between the two records of a block": func(r *rig) {
		r.anew()
		r.append(&logv1.BlockCommitted{ChainId: "c", Height: 10, BlockHash: []byte("block10"),
			AppHash: []byte("app10")})
		r.height = 10
		r.block("k")
	},
}

// anew replaces the log by an empty one.
func (r *rig) anew() {
	require.NoError(r.t, r.log.Close())
	require.NoError(r.t, os.RemoveAll(filepath.Join(r.dir, "log")))
	r.openLog()
}

// salvage damages the records that have a text, and replaces the log by what a salvage saves.
func (r *rig) salvage(text string) {
	require.NoError(r.t, r.log.Close())
	dir := filepath.Join(r.dir, "log")
	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	require.NoError(r.t, err)
	for _, name := range files {
		b, err := os.ReadFile(name)
		require.NoError(r.t, err)
		require.NoError(r.t, os.WriteFile(name, bytes.ReplaceAll(b, []byte(text), []byte("DAMAGED")), 0o600))
	}
	saved, err := eventlog.Salvage(r.t.Context(), dir, dir+".saved", eventlog.Options{SegmentSize: 1 << 16})
	require.NoError(r.t, err)
	require.NotEmpty(r.t, saved.Gaps)
	require.NoError(r.t, os.RemoveAll(dir))
	require.NoError(r.t, os.Rename(dir+".saved", dir))
	r.openLog()
}

// behind returns a rig whose sink has height 2, and whose log lacks what comes next. The streams
// are down.
func behind(t *testing.T, gap func(*rig), more string) *rig {
	t.Helper()
	r := newRig(t)
	r.start()
	r.define("out", more)
	r.up()
	r.block("a")
	r.block("b")
	r.reaches("out")
	r.down()
	gap(r)
	return r
}

// Item 47, R8, R13: whatever makes the gap, on_gap = "stop" stops there, writes nothing, and says
// why; "record" tells the sink and goes on with the next whole block; "wait" goes on when another
// node has brought the sink over the gap.
func TestAGapIsNeverSilent(t *testing.T) {
	for name, gap := range gaps {
		t.Run(name, func(t *testing.T) {
			t.Run("stop", func(t *testing.T) {
				r := behind(t, gap, "")
				r.up()
				st := r.becomes("out", InGap)
				require.Equal(t, GapInLog, st.Last.Class)
				require.NoError(t, r.streams.Retry("out", "test"))
				r.becomes("out", InGap)
				require.Equal(t, []string{"1:a", "2:b"}, r.sinks["out"].keys())
			})

			t.Run("record", func(t *testing.T) {
				r := behind(t, gap, "on_gap = \"record\"\n")
				r.up()
				r.reaches("out")
				require.Equal(t, []string{"1:a", "2:b", "11:k"}, r.sinks["out"].keys())
				told := r.toldGaps("out")
				require.Equal(t, "2 to 10", told)

				r.down() // the gap is told once
				r.up()
				r.block("l")
				r.reaches("out")
				require.Equal(t, []string{"1:a", "2:b", "11:k", "12:l"}, r.sinks["out"].keys())
				require.Equal(t, told, r.toldGaps("out"))
			})

			t.Run("killed after the gap was told", func(t *testing.T) {
				r := behind(t, gap, "on_gap = \"record\"\n")
				p := r.sinks["out"]
				p.fail = func(op string) error { // with p.mu held
					if op == "write" && p.cursor.Height == 10 {
						return errors.New("the node dies here")
					}
					return nil
				}
				r.up()
				r.waits("out", Position{Height: 10})
				r.down()
				p.fail = nil
				r.up()
				r.reaches("out")
				require.Equal(t, []string{"1:a", "2:b", "11:k"}, p.keys())
				require.Equal(t, "2 to 10", r.toldGaps("out"))
			})

			t.Run("wait", func(t *testing.T) {
				r := behind(t, gap, "on_gap = \"wait\"\nstandby = true\n")
				r.up()
				r.becomes("out", InGap)
				p := r.sinks["out"]
				p.mu.Lock() // another node writes on
				p.cursor.Height, p.cursor.Epoch = 11, p.cursor.Epoch+1
				p.cursor.AppHash, p.cursor.BlockHash = []byte("app11"), []byte("block11")
				p.mu.Unlock()
				r.block("l")
				r.reaches("out")
				require.Equal(t, []string{"1:a", "2:b", "12:l"}, p.keys())
			})
		})
	}
}

// toldGaps returns what the gaps that a sink was told of cover together.
func (r *rig) toldGaps(name string) string {
	p := r.sinks[name]
	p.mu.Lock()
	defer p.mu.Unlock()

	var from, to *Position
	for _, e := range p.events {
		g, ok := e.Body.(*Gap)
		if !ok {
			continue
		}
		if from == nil {
			from = g.After
		} else {
			require.Equal(r.t, to, g.After, "gaps that do not touch")
		}
		at := e.Position
		to = &at
	}
	return fmt.Sprintf("%s to %s", from, to)
}

// R13: a gap in which no block was lost is none for a stream.
func TestAGapWithoutABlockIsNone(t *testing.T) {
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprint("blocks before it: ", live), func(t *testing.T) {
			r := began(t, "")
			r.down()
			if live {
				r.block("b")
			}
			r.append(&logv1.TxLaunched{Tx: []byte("damaged")})
			r.block("c")
			r.salvage("damaged")
			r.up()
			r.reaches("out")
			require.Len(t, r.sinks["out"].keys(), int(r.height))
		})
	}
}

// Item 65, R5: a sink above the log waits with other nodes until the hashes decide, and is never
// written before. (A solo node refuses it: TestAForeignSinkIsRefused.)
func TestASinkAboveTheLogWaits(t *testing.T) {
	for name, tc := range map[string]struct {
		hash string
		want State
	}{"the same chain": {"app3", Live}, "a fork": {"other", Failed}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.opts = func(o *Options) { o.Alone = false }
			r.start()
			r.define("out", "standby = true\n")
			r.block("a")
			p := r.sinks["out"]
			p.cursor = Cursor{ChainID: "c", Position: Position{Height: 3}, AppHash: []byte(tc.hash), Epoch: 4,
				Events: 5}
			r.up()
			r.becomes("out", AheadOf)
			r.block("b")
			require.Never(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.opens > 0 }, 50*time.Millisecond,
				10*time.Millisecond, "it was claimed while it was ahead")
			r.block("c")
			r.block("d")
			st := r.becomes("out", tc.want)
			if tc.want == Failed {
				require.Equal(t, Foreign, st.Last.Class)
				require.Zero(t, p.opens)
				return
			}
			r.reaches("out")
			require.Equal(t, []string{"4:d"}, p.keys())
		})
	}
}

// Item 52: a reset of the chain: heights begin again in another period, nothing collides, and a
// restart on either side goes on at the exact next unit.
func TestAResetOfTheChainIsDelivered(t *testing.T) {
	for _, downAt := range []string{"never", "before", "after"} {
		t.Run(downAt, func(t *testing.T) {
			r := newRig(t)
			r.start()
			r.define("out", "")
			r.up()
			r.block("a")
			r.block("b")
			r.reaches("out")
			if downAt == "before" {
				r.down()
			}
			r.append(&logv1.ChainReset{OldChainId: "c", LastHeight: 2, LastAppHash: []byte("app2"), NewChainId: "c-1",
				NewPeriod: 1, InitialHeight: 1, AppHash: []byte("app2'")},
				&logv1.ChainStarted{ChainId: "c-1", Period: 1, InitialHeight: 1, AppHash: []byte("app2'")})
			for h := uint64(1); h <= 2; h++ {
				if downAt == "after" && h == 2 {
					r.waits("out", Position{1, 1})
					r.down()
				}
				v := &logv1.Version{Period: 1, Height: h}
				hash := fmt.Append(nil, "block1-", h)
				r.append(&logv1.OrderDecided{ChainId: "c-1", Period: 1, Height: h, BlockHash: hash, TimeNs: 9e9},
					&logv1.BlockCommitted{ChainId: "c-1", Period: 1, Height: h, BlockHash: hash, TimeNs: 9e9,
						AppHash: fmt.Append(nil, "app1-", h),
						Changes: []*logv1.Change{{Version: v, Key: fmt.Append(nil, "new", h), Value: []byte("v")}}})
			}
			if r.stop == nil {
				r.up()
			}
			r.waits("out", Position{1, 2})
			require.Equal(t, []string{"1:a", "2:b", "1:new1", "2:new2"}, r.sinks["out"].keys())

			places := map[Place]bool{}
			for _, e := range r.sinks["out"].events {
				require.False(t, places[e.Place], "%s is there twice", e.Place)
				places[e.Place] = true
			}
		})
	}
}
