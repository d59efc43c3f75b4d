package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/load"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/node/api"
)

// Dial returns a client of the node of a home, with the admin token of that home. It waits from
// minWait to maxWait between two attempts, and finds the node again after each of its starts.
func Dial(home string, minWait, maxWait time.Duration) (*client.Client, error) {
	token, err := os.ReadFile(filepath.Join(home, api.TokenFileName))
	if err != nil {
		return nil, err
	}

	return client.New("", client.WithToken(strings.TrimSpace(string(token))), client.WithBackoff(minWait, maxWait),
		client.WithResolver(func() (string, error) {
			n, err := api.ReadNodeFile(home)
			return n.Address, err
		})), nil
}

// Loads returns two loads of counters below the prefix. The first waits for results, so that a slow
// node slows it down. The second, at a tenth of the rate, waits only for acknowledgments, so that
// some acknowledged transactions have no result yet whenever the node is struck.
func Loads(c load.Config, prefix string) (runs []*load.Run, err error) {
	c.Backend, c.ValidFor = kv.Name, 9*time.Minute
	for i, noWait := range []bool{false, true} {
		if c.NoWait = noWait; noWait {
			c.Rate /= 10
		}
		c.Next = load.Counters(fmt.Sprintf("%s%d/", prefix, i))

		run, err := load.New(c)
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}

	return runs, nil
}
