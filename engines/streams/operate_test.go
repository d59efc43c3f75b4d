package streams

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// A stream that is dropped and added again at once is the new one: the writer of the old one has
// ended before Drop returns, and the manager starts the new one in its place.
func TestAStreamAddedAgainIsTheNewOne(t *testing.T) {
	r := began(t, "")
	old := r.sinks["out"]
	require.NoError(t, r.streams.Drop(t.Context(), "out", false))
	had := len(old.text())
	r.sinks["out"] = &place{}
	_, err := r.streams.Add(t.Context(), "out", []byte("kind = \"test\"\n"), false)
	require.NoError(t, err)

	r.block("b")
	r.reaches("out")
	require.Equal(t, []string{"1:a", "2:b"}, r.sinks["out"].keys())
	require.Len(t, old.text(), had, "the old writer delivers nothing more")
}

// A drop whose sink refuses to forget leaves the stream as it was.
func TestADropThatFailsLeavesTheStream(t *testing.T) {
	r := began(t, "")
	refused := errors.New("no right to drop a schema")
	r.sinks["out"].fail = func(op string) error {
		if op == "forget" {
			return refused
		}
		return nil
	}
	require.ErrorIs(t, r.streams.Drop(t.Context(), "out", true), refused)
	r.block("b")
	r.reaches("out")
}

// A drop does not remove the data of another writer: only a stream that has claimed the sink
// removes them.
func TestADropLeavesTheDataOfAnotherWriter(t *testing.T) {
	r := began(t, "")
	r.sinks["copy"] = r.sinks["out"]
	_, err := r.streams.Add(t.Context(), "copy", []byte("kind = \"test\"\n"), false)
	require.NoError(t, err)
	r.becomes("copy", Detached)
	require.ErrorIs(t, r.streams.Drop(t.Context(), "copy", true), ErrState)
	require.Equal(t, []string{"1:a"}, r.sinks["out"].keys())

	require.NoError(t, r.streams.Drop(t.Context(), "copy", false))
	require.NoError(t, r.streams.Drop(t.Context(), "out", true))
	require.Empty(t, r.sinks["out"].keys())
}

// A rewind that the sink refuses, or that fails under way, leaves the claim with this node: the
// stream goes on where it was.
func TestARefusedRewindLeavesTheStream(t *testing.T) {
	r := began(t, "")
	require.NoError(t, r.streams.Pause("out", "test"))
	r.becomes("out", Paused)
	refused := errors.New("the sink has no height 100")
	r.sinks["out"].fail = func(op string) error {
		if op == "rewind" {
			return refused
		}
		return nil
	}
	require.ErrorIs(t, r.streams.Rewind(t.Context(), "out", Position{Height: 100}, "test"), refused)

	require.NoError(t, r.streams.Resume("out", false, "test"))
	r.block("b")
	r.reaches("out")
	require.Equal(t, []string{"1:a", "2:b"}, r.sinks["out"].keys())
}

// A rewind does not take a sink away from another writer. The state says whose it is.
func TestARewindLeavesTheSinkOfAnotherWriter(t *testing.T) {
	r := began(t, "")
	require.NoError(t, r.streams.Pause("out", "test"))
	r.becomes("out", Paused)
	p := r.sinks["out"]
	p.mu.Lock()
	p.cursor.Epoch += 7
	p.mu.Unlock()
	require.ErrorIs(t, r.streams.Rewind(t.Context(), "out", Position{}, "test"), ErrState)

	require.NoError(t, r.streams.Resume("out", false, "test"))
	st := r.becomes("out", Detached)
	require.Contains(t, st.Last.Text, "--take-over")
	require.NoError(t, r.streams.Resume("out", true, "test"))
	r.block("b")
	r.reaches("out")
}

// A sink that was emptied is filled again, and that is no silent thing.
func TestASinkThatWasEmptiedIsFilledAgain(t *testing.T) {
	r := began(t, "")
	r.down()
	r.sinks["out"] = &place{}
	r.up()
	r.block("b")
	r.reaches("out")
	require.Equal(t, []string{"1:a", "2:b"}, r.sinks["out"].keys())
	st, err := r.streams.Status("out", Head{}, r.log.Stat())
	require.NoError(t, err)
	require.EqualValues(t, 1, st.Counts.Rewinds)
}
