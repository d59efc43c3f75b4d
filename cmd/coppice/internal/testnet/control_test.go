package testnet

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/node/exit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Of several runs that begin at once in one directory, one gets the control socket, and the others
// change nothing.
func TestOneRunTakesATestnet(t *testing.T) {
	n := &Net{Dir: t.TempDir(), Nodes: 1}
	for range 200 {
		var mu sync.Mutex
		var got []*running
		var refused []error
		begin := make(chan struct{})
		var all sync.WaitGroup

		for range 8 {
			all.Go(func() {
				<-begin
				r := &running{Net: n}
				err := r.take(t.Context())
				mu.Lock()
				defer mu.Unlock()

				if err != nil {
					refused = append(refused, err)
					return
				}

				got = append(got, r)
			})
		}

		close(begin)
		all.Wait()
		require.Len(t, got, 1)
		for _, err := range refused {
			require.ErrorIs(t, err, exit.ErrHomeInUse)
		}

		c, err := net.Dial("unix", n.socketPath())
		require.NoError(t, err, "the one that runs answers")
		c.Close()
		got[0].release()
	}
}
