package comet

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// An address of the RPC that is in use is named.
func TestAnRPCAddressInUseIsNamed(t *testing.T) {
	m := newNetwork(t, 1)[0]
	_, rpc, err := comethome.Addresses(m.home)
	require.NoError(t, err)
	l, err := net.Listen("tcp", rpc)
	require.NoError(t, err)
	defer l.Close()

	m.start(t)
	limit := time.After(time.Minute)
	for m.logs.FilterMessageSnippet("address already in use").Len() == 0 {
		select {
		case <-m.changed:
		case <-limit:
			require.FailNow(t, "not told")
		}
	}
	require.Zero(t, m.logs.FilterMessageSnippet("panic").Len())
}
