package child

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/p2p"
	rpctypes "github.com/cometbft/cometbft/rpc/jsonrpc/types"
	"github.com/stretchr/testify/require"
)

// stranger is a peer of a switch that never was one.
type stranger struct {
	p2p.Peer
	id p2p.ID
}

func (s stranger) ID() p2p.ID             { return s.id }
func (s stranger) GetRemovalFailed() bool { return false }
func (s stranger) String() string         { return string(s.id) }

// Two nodes that dial each other at the same moment refuse one connection. Only a node that keeps
// coming while its id is connected has the key of another.
func TestADuplicateNodeIDIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := new(told)
		log := newPeerLog(cmtlog.NewNopLogger(), factsOf("own", said)).With("module", "p2p")
		id := p2p.ID(strings.Repeat("a", 40))
		twice := duplicate(t, id)

		for range 20 {
			log.Info("Ignoring inbound connection: error while adding peer", "err", twice, "id", id)
			<-time.After(time.Minute)
		}
		require.Empty(t, said.notices, "now and then, as in a sound network")

		for range 100 {
			log.Info("Ignoring inbound connection: error while adding peer", "err", twice, "id", id)
			<-time.After(time.Second)
		}
		require.Len(t, said.notices, 1)
		require.Equal(t, Notice{DuplicateID, string(id), said.notices[0].Text}, said.notices[0])

		<-time.After(NoticeAgain)
		for range often {
			log.Info("Ignoring inbound connection: error while adding peer", "err", twice, "id", id)
		}
		require.Len(t, said.notices, 2, "it is still so an hour later")
	})
}

// duplicate returns CometBFT's error for a peer that is connected already.
func duplicate(t *testing.T, id p2p.ID) error {
	t.Helper()
	set := p2p.NewPeerSet()
	require.NoError(t, set.Add(stranger{id: id}))
	return set.Add(stranger{id: id})
}

// The attempts that follow a known reason leave no line, and lines about a peer whose reason is not
// known come once a minute.
func TestLinesAboutAPeerAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		said := new(told)
		facts := factsOf("own", said)
		log := newPeerLog(cmtlog.NewTMLogger(&out), facts)
		a, b := stranger{id: "a"}, stranger{id: "b"}

		for range 120 {
			log.Error("Stopping peer for error", "peer", a, "err", errors.New("reset"))
			log.Error("Stopping peer for error", "peer", b, "err", errGenesis)
			<-time.After(time.Second)
		}
		require.Equal(t, 2, strings.Count(out.String(), "reset"), out.String())
		require.NotContains(t, out.String(), errGenesis.Error())

		log.Error("found conflicting vote from ourselves; did you unsafe_reset a validator?", "height", int64(7))
		require.Len(t, said.notices, 1)
		require.Equal(t, DoubleSign, said.notices[0].Topic)
		require.Contains(t, said.notices[0].Text, "height 7")

		for range endsOften {
			facts.ended("a", io.EOF.Error())
		}
		require.Len(t, said.notices, 2)
		require.Equal(t, PeerRefuses, said.notices[1].Topic)
	})
}

// A line has a bound, whatever the type of what CometBFT wants to log: a client that does not read
// its answers would fill the disk with them.
func TestALineOfTheLogHasABound(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, v := range map[string]any{
		"text":   long,
		"bytes":  []byte(long),
		"error":  errors.New(long),
		"answer": rpctypes.RPCResponse{JSONRPC: "2.0", Result: []byte(`"` + long + `"`)},
		"values": []string{long, long},
		"id":     p2p.ID(long),
	} {
		for level, say := range map[string]func(cmtlog.Logger, string, ...any){
			"info": cmtlog.Logger.Info, "error": cmtlog.Logger.Error,
		} {
			var out bytes.Buffer
			log := newPeerLog(cmtlog.NewTMLogger(&out), factsOf("own", new(told)))
			say(log, "Failed to write response", "msg", v, "n", 3)
			require.Contains(t, out.String(), "n=3", "%s, %s", name, level)
			require.Contains(t, out.String(), " bytes: ", "%s, %s", name, level)
			require.Less(t, out.Len(), 2*mostOfValue, "%s, %s", name, level)
		}
	}

	var out bytes.Buffer
	log := newPeerLog(cmtlog.NewTMLogger(&out), factsOf("own", new(told)))
	log.Error("as it is", "err", io.EOF, "at", 7*time.Second)
	require.Contains(t, out.String(), "err=EOF at=7s")
}
