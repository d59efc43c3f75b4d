package testnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// firstPort and lastPort bound the ports for CometBFT. They are below those that the system assigns
// to sockets without a port of their own, which begin at 32768 on Linux and at 49152 on other
// systems. So a CometBFT that is down for a while finds its port still free.
const firstPort, lastPort = 10240, 32767

// freePorts returns n loopback addresses on which no process listens.
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
