package streams

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// R11: a slot that a gate waits for has no caps by default.
func TestARequiredSlotHasNoCapsByDefault(t *testing.T) {
	d := Definition{KeepBytes: DefaultKeepBytes, KeepTime: DefaultKeepTime}
	bytes, age := d.caps(true)
	require.Zero(t, bytes)
	require.Zero(t, age)

	bytes, age = d.caps(false)
	require.EqualValues(t, DefaultKeepBytes, bytes)
	require.Equal(t, DefaultKeepTime, age)

	bytes, age = Definition{KeepBytes: 1, KeepTime: time.Hour}.caps(true)
	require.EqualValues(t, 1, bytes)
	require.Equal(t, time.Hour, age)
}

// filled is a rig with two paused slots that hold some segments of the log, with caps that they are
// past.
func filled(t *testing.T, opts func(*Options)) *rig {
	r := newRig(t)
	r.opts = opts
	r.start()
	for _, name := range []string{"east", "west"} {
		r.define(name, "keep_behind = \"0s\"\nkeep_bytes = 100000\n")
	}
	r.up()
	r.block("a")
	for _, name := range []string{"east", "west"} {
		r.reaches(name)
		require.NoError(t, r.streams.Pause(name, "test"))
		r.becomes(name, Paused)
	}
	for range 50 {
		r.block(strings.Repeat("k", 4000))
	}
	return r
}

// R11: slots that hold the same of the log are each past their caps; neither hides the other.
func TestTwoSlotsThatHoldTheSameArePastTheirCaps(t *testing.T) {
	r := filled(t, nil)
	require.Eventually(t, func() bool {
		east, _ := r.streams.Standing("east")
		west, _ := r.streams.Standing("west")
		return east.Lost && west.Lost && len(r.log.Stat().Retainers) == 0
	}, 10*time.Second, 10*time.Millisecond)
}

// R11: the caps count only what truncation would remove otherwise: nothing, if the log keeps all.
func TestALogThatKeepsAllIsNotHeldBySlots(t *testing.T) {
	r := filled(t, func(o *Options) { o.KeepsAll = true })
	st, err := r.streams.Status("east", Head{}, r.log.Stat())
	require.NoError(t, err)
	require.Zero(t, st.HeldBytes)
	require.False(t, st.AtRisk)
}

// A slot that a gate drops no longer holds the log, at once. A rewind takes it up again.
func TestADroppedSlotLetsTheLogGo(t *testing.T) {
	r := began(t, "keep_behind = \"0s\"\n")

	require.NoError(t, r.streams.Lose("out", "gate books"))
	require.Empty(t, r.log.Stat().Retainers)
	r.becomes("out", LostLog)

	require.NoError(t, r.streams.Pause("out", "test"))
	require.NoError(t, r.streams.Rewind(t.Context(), "out", Position{Height: 0}, "test"))
	require.NoError(t, r.streams.Resume("out", false, "test"))
	r.reaches("out")
	require.Equal(t, retainerName("out"), r.log.Stat().Retainers[0].Name)
	require.Equal(t, []string{"1:a"}, r.sinks["out"].keys())
}

// R11: at half of a cap a slot is at risk, which is told before it is lost.
func TestASlotIsAtRiskBeforeItIsLost(t *testing.T) {
	r := began(t, "keep_behind = \"0s\"\nkeep_bytes = 300000\n")
	require.NoError(t, r.streams.Pause("out", "test"))
	r.becomes("out", Paused)
	at := func() Status {
		st, err := r.streams.Status("out", Head{}, r.log.Stat())
		require.NoError(t, err)
		return st
	}
	require.False(t, at().AtRisk)
	for !at().AtRisk {
		r.block(strings.Repeat("k", 4000))
	}
	require.Less(t, at().HeldBytes, int64(200_000))
	require.Greater(t, at().FreeBytes, int64(100_000))
	require.NotEqual(t, LostLog, at().State)
}

// R11: with too little of the disk left, the slot without a gate that holds most is lost first, and
// one that a gate waits for is not.
func TestAFullDiskTakesTheSlotThatHoldsMost(t *testing.T) {
	full := make(chan struct{})
	r := newRig(t)
	r.opts = func(o *Options) {
		o.Required = func(name string) bool { return name == "needed" }
		o.Scarce = func() bool {
			select {
			case <-full:
				return true
			default:
				return false
			}
		}
	}
	r.start()
	for _, name := range []string{"needed", "old", "young"} {
		r.define(name, "keep_behind = \"0s\"\n")
	}
	r.up()
	for _, name := range []string{"needed", "old", "young"} {
		r.block(strings.Repeat("k", 4000))
		r.reaches(name)
		require.NoError(t, r.streams.Pause(name, "test"))
		r.becomes(name, Paused)
	}
	r.block("a")

	lost := func() (names []string) {
		for _, name := range r.streams.Names() {
			if st, err := r.streams.Standing(name); err == nil && st.Lost {
				names = append(names, name)
			}
		}
		return names
	}
	require.Empty(t, lost())
	close(full)
	require.Eventually(t, func() bool { return len(lost()) > 0 }, 10*time.Second, time.Millisecond)
	require.Contains(t, lost(), "old")
	require.Eventually(t, func() bool { return len(lost()) == 2 }, 10*time.Second, time.Millisecond)
	require.Equal(t, []string{"old", "young"}, lost())
}
