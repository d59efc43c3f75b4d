package testnet

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// firstPort and lastPort bound the ports for CometBFT. They are below those that the system assigns
// to sockets without a port of their own, which begin at 32768 on Linux and at 49152 on other
// systems. So a CometBFT that is down for a while finds its port still free.
const firstPort, lastPort = 10240, 32767

// freePorts returns n loopback addresses on which no process listens.
func freePorts(n int) ([]string, error) { return claimPorts(make([]string, n)) }

// claimPorts returns loopback addresses on which no process listens, as many as there are wanted
// ones. Each is the wanted one if that is free, and otherwise another. An empty one may be any.
func claimPorts(wanted []string) ([]string, error) {
	found := make([]string, len(wanted))
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()

	for i, addr := range wanted {
		if addr == "" {
			continue
		}
		if l, err := net.Listen("tcp", addr); err == nil {
			held, found[i] = append(held, l), addr
		}
	}

	for i := range found {
		var err error
		for try := 0; found[i] == "" && try < 100; try++ {
			var l net.Listener
			l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort+1)))
			if err == nil {
				held, found[i] = append(held, l), l.Addr().String()
			}
		}

		if found[i] == "" {
			return nil, fmt.Errorf("%d of %d ports are free from %d to %d: %w", i, len(wanted), firstPort, lastPort, err)
		}
	}

	return found, nil
}
