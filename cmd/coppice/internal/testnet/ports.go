package testnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports for CometBFT, below those that the system deals to whoever wants any, or connects: Linux
// has them from 32768 on, other systems from 49152. A CometBFT that is down holds none, for a
// while, and finds its own again.
const firstPort, lastPort = 10240, 32767

// freePorts finds n addresses on loopback that nobody listens on.
func freePorts(n int) ([]string, error) {
	var found []string
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()

	var refused error

	for range 100 * n {
		if len(found) == n {
			return found, nil
		}

		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort+1)))
		if err != nil {
			refused = err
			continue
		}

		held, found = append(held, l), append(found, l.Addr().String())
	}

	return nil, errors.Join(fmt.Errorf("%d of %d ports are free from %d to %d", len(found), n, firstPort, lastPort),
		refused)
}
