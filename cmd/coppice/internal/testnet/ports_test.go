package testnet

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// The port of a CometBFT that is down must not be one that the system assigns to a socket without a
// port of its own. Otherwise a node that listens on port 0 can take the port of its own CometBFT.
func TestPortsAreNotThoseThatTheSystemDeals(t *testing.T) {
	seen := make(map[string]bool)
	for range 50 {
		ports, err := freePorts(8)
		require.NoError(t, err)
		require.Len(t, ports, 8)
		mine := make(map[string]bool)

		for _, p := range ports {
			_, port, err := net.SplitHostPort(p)
			require.NoError(t, err)
			n, err := strconv.Atoi(port)
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, 1024)
			require.Less(t, n, 32768, "Linux deals from 32768 on, others from 49152 on")
			mine[p], seen[p] = true, true
		}

		require.Len(t, mine, 8, "each is another")
	}

	require.Greater(t, len(seen), 200, "two testnets that start at once rarely meet")
}

// A testnet that is started again keeps its addresses, which nodes of other homes may have in their
// configuration, unless somebody else has taken one.
func TestPortsStayTheSame(t *testing.T) {
	had, err := freePorts(4)
	require.NoError(t, err)
	again, err := claimPorts(had)
	require.NoError(t, err)
	require.Equal(t, had, again)

	l, err := net.Listen("tcp", had[1])
	require.NoError(t, err)
	defer l.Close()
	again, err = claimPorts([]string{had[0], had[1], had[2], had[2], ""})
	require.NoError(t, err)
	require.Equal(t, []string{had[0], had[2]}, []string{again[0], again[2]})
	require.NotContains(t, []string{had[1], had[2], ""}, again[1])
	require.NotContains(t, []string{had[2], ""}, again[3])
	require.NotEmpty(t, again[4])
}
