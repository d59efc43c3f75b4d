package chain_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

func TestEachEpochHasAChainIDOfItsOwn(t *testing.T) {
	for _, name := range []string{"orchard", "orchard-1", "a"} {
		for _, epoch := range []uint64{0, 1, 12} {
			id := chain.EpochID(name, epoch)
			require.Equal(t, name, chain.NameOf(id, epoch))
			got, ok := chain.EpochOf(id, name)
			require.True(t, ok)
			require.Equal(t, epoch, got)
		}
	}

	for _, id := range []string{"orchard-", "orchard-0", "orchard-01", "orchard-x", "orchard1", "forest-1",
		"orchard-1-1"} {
		_, ok := chain.EpochOf(id, "orchard")
		require.False(t, ok, id)
	}
}

func TestAGenesisWithImpossibleResetsIsRefused(t *testing.T) {
	longest := strings.Repeat("n", chain.MaxResetName)
	for _, c := range []struct {
		name   string
		resets *chain.Resets
		want   string
	}{
		{longest, &chain.Resets{Mode: chain.Regenesis, Offset: 10}, ""},
		{longest + "n", nil, ""},
		{longest + "n", &chain.Resets{Mode: chain.Regenesis, Offset: 20}, "chain_id: 30 bytes, want at most 29"},
		{"n", &chain.Resets{Mode: "renew", Offset: 20}, `resets.mode: "renew", want "regenesis" or "prune"`},
		{"n", &chain.Resets{Mode: chain.Prune, Offset: 20}, "resets.offset: 20, want 0 with the mode"},
		{longest + "n", &chain.Resets{Mode: chain.Prune}, ""},
		{"n", &chain.Resets{Mode: chain.Regenesis}, "resets.offset: 0, want 10 to"},
		{"n", &chain.Resets{Mode: chain.Regenesis, Offset: 9}, "resets.offset: 9, want 10 to"},
	} {
		g := chain.NewGenesis(c.name, time.Unix(1000, 0))
		g.Resets = c.resets
		rec, err := g.ChainStarted()
		if c.want == "" {
			require.NoError(t, err)
			continue
		}
		require.Nil(t, rec)
		require.ErrorIs(t, err, chain.ErrGenesis)
		require.ErrorContains(t, err, c.want)
	}
}

// A genesis without resets has the bytes that it had before there were resets.
func TestAGenesisWithoutResetsIsAsItWas(t *testing.T) {
	g := chain.NewGenesis("orchard", time.Unix(1000, 0))
	state, err := g.AppState()
	require.NoError(t, err)
	require.NotContains(t, string(state), "resets")

	rec, err := g.ChainStarted()
	require.NoError(t, err)
	require.Equal(t, proto.Size(chain.DefaultParams()), proto.Size(rec.Params))
}

// held is a chain whose reset is due.
func held() chain.State {
	return chain.State{
		ChainID: "orchard-4", Period: 4, InitialHeight: 80, Height: 101, AppHash: []byte("hash in 4"),
		Params: chain.DefaultParams(), Reset: &chain.Reset{Epoch: 4, Height: 100, TimeNs: 5, Offset: 20},
	}
}

var root = chain.Root{State: []byte("root"), AppHash: []byte("hash in 5")}

func TestAResetDerivesFromTheBlockThatDecidedIt(t *testing.T) {
	s := held()
	with := chain.Renewal{AppState: []byte("{}"), Validators: []*logv1.ValidatorUpdate{{PubKey: []byte("a"), Power: 1}}}
	r, err := s.ChainReset(root, with)
	require.NoError(t, err)
	require.Equal(t, "orchard-5", r.NewChainId)
	require.EqualValues(t, 5, r.NewPeriod)
	require.EqualValues(t, 120, r.InitialHeight)
	require.EqualValues(t, 5, r.GenesisTimeNs)
	require.Equal(t, root.AppHash, r.AppHash)
	require.NoError(t, s.CheckChainReset(root, r))
	require.NoError(t, chain.Succeeds(r, chain.StartedBy(r, with.AppState)))

	for what, spoil := range map[string]func(*logv1.ChainReset){
		"height": func(r *logv1.ChainReset) { r.ResetHeight++ },
		"root":   func(r *logv1.ChainReset) { r.StateRoot = []byte("another") },
		"hash":   func(r *logv1.ChainReset) { r.AppHash = []byte("another") },
		"chain":  func(r *logv1.ChainReset) { r.NewChainId = "orchard-6" },
		"first":  func(r *logv1.ChainReset) { r.InitialHeight++ },
		"time":   func(r *logv1.ChainReset) { r.GenesisTimeNs++ },
	} {
		bad := proto.CloneOf(r)
		spoil(bad)
		require.ErrorIs(t, s.CheckChainReset(root, bad), chain.ErrReset, what)
	}

	for what, spoil := range map[string]func(*logv1.ChainStarted){
		"chain_id":          func(r *logv1.ChainStarted) { r.ChainId = "orchard-4" },
		"epoch":             func(r *logv1.ChainStarted) { r.Period = 4 },
		"initial_height":    func(r *logv1.ChainStarted) { r.InitialHeight = 1 },
		"genesis_time":      func(r *logv1.ChainStarted) { r.GenesisTimeNs++ },
		"app_hash":          func(r *logv1.ChainStarted) { r.AppHash = []byte("another") },
		"limits":            func(r *logv1.ChainStarted) { r.Params = nil },
		"hash of app_state": func(r *logv1.ChainStarted) { r.AppState = []byte("[]") },
		"validators":        func(r *logv1.ChainStarted) { r.Validators = nil },
	} {
		bad := proto.CloneOf(chain.StartedBy(r, with.AppState))
		spoil(bad)
		err := chain.Succeeds(r, bad)
		require.ErrorIs(t, err, chain.ErrReset, what)
		require.ErrorContains(t, err, what+" of the start of epoch 5")
	}
}

func TestNoResetIsMadeThatIsNotDue(t *testing.T) {
	s := held()
	s.Period, s.ChainID = 5, "orchard-5" // the reset was made, and the first block has not come
	_, err := s.ChainReset(root, chain.Renewal{})
	require.ErrorIs(t, err, chain.ErrNoReset)

	s.Reset = nil
	_, err = s.ChainReset(root, chain.Renewal{})
	require.ErrorIs(t, err, chain.ErrNoReset)
}

func TestTheLastChangeOfABlockDecidesWhetherAResetIsDue(t *testing.T) {
	r := chain.Reset{Epoch: 1, Height: 7, TimeNs: 9, Offset: 20}
	value, err := r.Encode()
	require.NoError(t, err)
	set := &logv1.Change{Key: []byte(chain.ResetKey), Value: value}
	gone := &logv1.Change{Key: []byte(chain.ResetKey), Delete: true}
	other := &logv1.Change{Key: []byte("k"), Value: []byte("v")}

	got, err := chain.ResetOf([]*logv1.Change{gone, set, other}, nil)
	require.NoError(t, err)
	require.Equal(t, &r, got)
	got, err = chain.ResetOf([]*logv1.Change{set, gone}, &r)
	require.NoError(t, err)
	require.Nil(t, got)
	got, err = chain.ResetOf([]*logv1.Change{other}, &r)
	require.NoError(t, err)
	require.Equal(t, &r, got)

	for _, bad := range []string{"", "{", `{"epoch":1}`} {
		_, err = chain.ResetOf([]*logv1.Change{{Key: []byte(chain.ResetKey), Value: []byte(bad)}}, nil)
		require.Error(t, err, "%q", bad)
	}
}

// Each epoch has a chain id of its own, however the period before ended: the id follows from the
// epoch that the state is in, and that only rises. Item 44.
func TestNoChainIDRepeats(t *testing.T) {
	seen := map[string]bool{}
	s := chain.State{ChainID: "n", Height: 30, AppHash: []byte{1}, Params: chain.DefaultParams()}
	for epoch := range uint64(100) {
		require.False(t, seen[s.ChainID], s.ChainID)
		seen[s.ChainID] = true
		s.Reset = &chain.Reset{Epoch: epoch, Height: s.Height, Offset: 20, TimeNs: 1}
		for range 2 { // the same decision leads to the same record
			rec, err := s.ChainReset(chain.Root{AppHash: []byte{2}}, chain.Renewal{})
			require.NoError(t, err)
			require.Equal(t, chain.EpochID("n", epoch+1), rec.NewChainId)
		}
		rec, err := s.ChainReset(chain.Root{AppHash: []byte{2}}, chain.Renewal{})
		require.NoError(t, err)
		s = chain.AfterReset(rec)
		s.Height = s.InitialHeight + 5
	}
}
