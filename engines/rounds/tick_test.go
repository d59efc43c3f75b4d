package rounds_test

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
)

// A tick has one form, shorter than a signature, and is the same on all nodes whose clocks are not
// a window apart.
func TestATickHasOneForm(t *testing.T) {
	deadline := time.Unix(1_000, 123_456_789).UTC()
	tick := rounds.Tick{Epoch: 3, Count: 7, After: deadline, Waited: 2}
	body := tick.Encode()
	require.Less(t, len(body), 64)
	again, ok := rounds.DecodeTick(body)
	require.True(t, ok)
	require.Equal(t, tick, again)

	for _, other := range [][]byte{nil, body[1:], append([]byte("tock"), body[4:]...), append(body, 0)} {
		_, ok := rounds.DecodeTick(other)
		require.False(t, ok)
	}

	const window = 10 * time.Minute
	first, err := tick.Tx(window, deadline.Add(time.Millisecond)).Encode()
	require.NoError(t, err)
	for late, same := range map[time.Duration]bool{0: true, 9 * time.Minute: true, window + time.Second: false} {
		raw, err := tick.Tx(window, deadline.Add(late)).Encode()
		require.NoError(t, err)
		require.Equal(t, same, string(raw) == string(first), "%v late", late)
		require.False(t, tick.Tx(window, deadline.Add(late)).ValidUntil.Before(deadline.Add(late)))
	}
}

// Ticks are for the armed deadline and for rounds that count blocks, and for nothing else.
func TestOnlyTheNextTickIsTaken(t *testing.T) {
	p := play(t, service())
	_, ok := p.st.NextTick(0, p.now)
	require.False(t, ok, "before the first block")

	p.block(nil, p.all("\"v1\"")...)
	deadline, armed := p.st.Deadline()
	require.True(t, armed)
	tick, ok := p.st.NextTick(0, p.now)
	require.True(t, ok)
	require.Equal(t, deadline.At, tick.After)

	due := tick.After.Add(1)
	require.NoError(t, p.st.Takes(tick, 0, due))
	require.ErrorContains(t, p.st.Takes(tick, 0, tick.After), "has not passed")
	require.ErrorContains(t, p.st.Takes(tick, 1, due), "the round is of epoch 1")

	for _, edit := range []func(*rounds.Tick){
		func(t *rounds.Tick) { t.Count++ },
		func(t *rounds.Tick) { t.After = t.After.Add(-1) },
		func(t *rounds.Tick) { t.Waited = 1 },
	} {
		other := tick
		edit(&other)
		require.ErrorIs(t, p.st.Takes(other, 0, due), rounds.ErrTick)
	}

	p.block(nil, p.all("1")...) // t have spoken: observe counts one more block
	require.EqualValues(t, 1, p.st.Waited())
	tick, ok = p.st.NextTick(0, p.now)
	require.True(t, ok)
	require.Equal(t, p.now, tick.After)
	require.NoError(t, p.st.Takes(tick, 0, p.now.Add(1)))
	p.block(nil)
	require.ErrorIs(t, p.st.Takes(tick, 0, p.now.Add(1)), rounds.ErrTick)
}

// A pool bounds what an agent has waiting, and nobody is charged with a tick.
func TestTheAgentOfABody(t *testing.T) {
	require.Equal(t, rounds.Agent("a"), rounds.AgentOf(rounds.Payload{Agent: "a", Label: "L"}.Sign("test",
		ed25519.NewKeyFromSeed(make([]byte, 32)))))
	require.Empty(t, rounds.AgentOf(rounds.Tick{After: time.Unix(1, 0)}.Encode()))
	require.Empty(t, rounds.AgentOf([]byte("short")))
}
