package sinkfire

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// enginePath is the supervisor of the streams.
const enginePath = "coppice/node/engines/streams"

// Items 14, 16 and 68: streams, manager, slots and each slot are killed in every way under load. No
// other child restarts, and nothing is lost. COPPICE_SLOT_KILLS is the number of kills.
func TestKillsOfSlotsTouchNothingElse(t *testing.T) {
	campaign(t)
	m := alone(t)
	names := []string{"a", "b", "c"}
	for _, name := range names {
		m.define(name, `kind = "file"`, fmt.Sprintf("dir = %q", filepath.Join(m.home, name)))
	}
	m.start()
	load := startLoad(t, 200, m)
	load.grow(100)
	before := others(t, m)

	n := number(t, "COPPICE_SLOT_KILLS", 1000)
	missed, by := 0, map[string]int{}
	for done := 0; done < n; {
		how, path := choose(t, m)
		ctx, cancel := m.ask()
		release := time.Duration(0)
		if how == apiv1.How_HOW_HANG {
			release = 50 * time.Millisecond
		}
		_, err := m.cl.Kill(ctx, path, how, release)
		cancel()
		if err != nil {
			missed++ // it is between two incarnations
			require.Less(t, missed, 20*n, "%v", err)
			require.NoError(t, rig.Pause(t.Context(), time.Millisecond))
			continue
		}
		done++
		by[fmt.Sprintf("%s %s", rig.HowWord(how), strings.TrimPrefix(path, "coppice/node/engines/"))]++
		if done%100 == 0 {
			load.grow(10)
			for _, name := range names {
				m.level(name)
			}
		}
	}

	load.end()
	acked := load.kept(m)
	for _, name := range names {
		height := m.level(name)
		r := m.verify(name, 0)
		seen := byLines(t, filepath.Join(m.home, name, "*.jsonl"))
		require.EqualValues(t, r.Units, seen.blocks)
		t.Logf("%s: %d blocks to height %d, %d events, no fault; the reader of its lines agrees", name, r.Units, height,
			r.Events)
	}
	require.Equal(t, before, others(t, m), "another child has restarted")
	t.Logf("%d kills (%d blows met nobody): %v; %d transactions kept; %d other children did not restart", n, missed, by,
		acked, len(before))
}

// choose returns a random child of the engine of streams, and a way to kill it.
func choose(t *testing.T, m *machine) (how apiv1.How, path string) {
	t.Helper()
	ctx, cancel := m.ask()
	defer cancel()
	tree, err := m.cl.Tree(ctx)
	require.NoError(t, err)

	type blow struct {
		how  apiv1.How
		path string
	}
	var blows []blow
	var walk func(c *apiv1.Child)
	walk = func(c *apiv1.Child) {
		if strings.HasPrefix(c.Path, enginePath) {
			if c.Type == apiv1.ChildType_CHILD_TYPE_SUPERVISOR {
				blows = append(blows, blow{apiv1.How_HOW_STOP, c.Path})
			} else {
				for _, h := range []apiv1.How{apiv1.How_HOW_ERROR, apiv1.How_HOW_PANIC, apiv1.How_HOW_GOEXIT,
					apiv1.How_HOW_HANG} {
					blows = append(blows, blow{h, c.Path})
				}
			}
		}
		for _, child := range c.Children {
			walk(child)
		}
	}
	walk(tree.Root)
	require.NotEmpty(t, blows)
	b := blows[rand.IntN(len(blows))]

	return b.how, b.path
}

// others returns the incarnations of all children outside of the engine of streams, but those of
// dynamic supervisors.
func others(t *testing.T, m *machine) map[string]uint64 {
	t.Helper()
	ctx, cancel := m.ask()
	defer cancel()
	tree, err := m.cl.Tree(ctx)
	require.NoError(t, err)

	list := map[string]uint64{}
	var walk func(c *apiv1.Child)
	walk = func(c *apiv1.Child) {
		if strings.HasPrefix(c.Path, enginePath) {
			return
		}
		list[c.Path] = c.Live.GetIncarnation()
		if c.Spec.GetStrategy() == apiv1.Strategy_STRATEGY_DYNAMIC {
			return
		}
		for _, child := range c.Children {
			walk(child)
		}
	}
	walk(tree.Root)

	return list
}
