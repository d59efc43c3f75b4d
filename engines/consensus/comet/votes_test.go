package comet

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"
)

// vote is a vote that a validator has signed.
type vote struct {
	Chain  string
	Height int64
	Round  int32
	Type   cmtproto.SignedMsgType
	Block  []byte
}

func votesPath(home string) string { return filepath.Join(filepath.Dir(home), "votes") }

// votesKept returns the signer of a test's child: it keeps each vote in a file beside the home, if
// that file is there.
func votesKept(home string) func(types.PrivValidator) types.PrivValidator {
	return func(pv types.PrivValidator) types.PrivValidator {
		if _, err := os.Stat(votesPath(home)); err != nil {
			return pv
		}
		return voteKeeper{pv, votesPath(home)}
	}
}

type voteKeeper struct {
	types.PrivValidator
	path string
}

// SignVote implements types.PrivValidator.
func (k voteKeeper) SignVote(chainID string, v *cmtproto.Vote) error {
	if err := k.PrivValidator.SignVote(chainID, v); err != nil {
		return err
	}
	f, err := os.OpenFile(k.path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return json.NewEncoder(f).Encode(vote{chainID, v.Height, v.Round, v.Type, v.BlockID.Hash})
}

// twice returns how many votes of a member there are, and those of one place that are for two
// blocks.
func (m *member) twice(t *testing.T) (n int, conflicts []vote) {
	t.Helper()
	f, err := os.Open(votesPath(m.home))
	require.NoError(t, err)
	defer f.Close()

	type place struct {
		chain  string
		height int64
		round  int32
		typ    cmtproto.SignedMsgType
	}
	seen := make(map[place]string)
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		var v vote
		require.NoError(t, json.Unmarshal(lines.Bytes(), &v))
		at := place{v.Chain, v.Height, v.Round, v.Type}
		if block, ok := seen[at]; ok && block != string(v.Block) {
			conflicts = append(conflicts, v)
		}
		seen[at] = string(v.Block)
	}

	return n, conflicts
}

// Over hard resets of each of four validators, one after another, no key signs two votes for one
// height, round and type. All of them still vote afterwards. Item 35, on our node;
// TestNoKeySignsTwiceWhateverResetsAreMade holds it on a bare home, with a chain id that returns.
func TestNoKeySignsTwiceOverHardResets(t *testing.T) {
	all := newNetwork(t, 4)
	for _, m := range all {
		m.manager = freePort(t)
		require.NoError(t, os.WriteFile(votesPath(m.home), nil, 0o600))
		m.start(t)
	}
	for _, m := range all {
		m.past(t, 3)
	}

	rounds := 1
	if os.Getenv("COPPICE_SOAK") != "" {
		rounds = 3
	} else {
		t.Log("short form with one round of resets; COPPICE_SOAK=1 makes three")
	}
	done := 0
	for range rounds {
		for _, m := range all {
			if ok, _ := m.reset(t, "/hard_reset"); ok { // it is refused while the others do not go on
				done++
			}
			m.past(t, m.height()+2)
		}
	}
	require.Greater(t, done, 0)

	for _, m := range all {
		before, conflicts := m.twice(t)
		require.Empty(t, conflicts, m.peer)
		require.Eventually(t, func() bool {
			n, _ := m.twice(t)
			return n > before+4
		}, time.Minute, 50*time.Millisecond, "%s votes no more", m.peer)
	}
}

// The reader of votes finds what a zeroed signing state would lead to. Item 35.
func TestTheReaderOfVotesFindsTwoVotes(t *testing.T) {
	m := &member{home: filepath.Join(t.TempDir(), "comet")}
	f, err := os.Create(votesPath(m.home))
	require.NoError(t, err)
	for _, v := range []vote{{"a", 1, 0, 1, []byte("x")}, {"a", 1, 0, 1, []byte("x")}, {"a", 1, 0, 2, []byte("y")},
		{"b", 1, 0, 1, []byte("y")}, {"a", 1, 1, 1, nil}} {
		require.NoError(t, json.NewEncoder(f).Encode(v))
	}
	n, conflicts := m.twice(t)
	require.Equal(t, 5, n)
	require.Empty(t, conflicts)
	require.NoError(t, json.NewEncoder(f).Encode(vote{"a", 1, 0, 1, nil}))
	require.NoError(t, f.Close())
	_, conflicts = m.twice(t)
	require.Len(t, conflicts, 1)
}
