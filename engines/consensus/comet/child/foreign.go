package child

import (
	"fmt"
	"time"

	abcicli "github.com/cometbft/cometbft/abci/client"
	cmtlog "github.com/cometbft/cometbft/libs/log"
)

// foreignClients makes connections to an application that is not ours. It takes CometBFT's own
// client, because such an application sends its answers only after a Flush, which that client
// sends.
type foreignClients struct {
	addr  string
	log   cmtlog.Logger
	ended <-chan struct{}
}

// NewABCIClient implements proxy.ClientCreator.
func (f foreignClients) NewABCIClient() (abcicli.Client, error) {
	c, err := f.newClient(f.log)
	return &foreignClient{Client: c, made: f, log: f.log}, err
}

func (f foreignClients) newClient(log cmtlog.Logger) (abcicli.Client, error) {
	c, err := abcicli.NewClient(f.addr, "socket", true)
	if err != nil {
		return nil, fmt.Errorf("application at %s: %w", f.addr, err)
	}
	c.SetLogger(log)
	return c, nil
}

// foreignClient is a client whose Start waits until the application listens. CometBFT's own client
// can wait, too, but it tries only every 3 s, and cannot be stopped meanwhile.
type foreignClient struct {
	abcicli.Client
	made foreignClients
	log  cmtlog.Logger
}

// SetLogger sets the logger of the client.
func (c *foreignClient) SetLogger(log cmtlog.Logger) {
	c.log = log
	c.Client.SetLogger(log)
}

const (
	dialPause    = 50 * time.Millisecond
	dialMost     = time.Second
	dialSayEvery = 10 * time.Second
)

// Start connects to the application.
func (c *foreignClient) Start() error {
	var said time.Time

	for wait := dialPause; ; wait = min(2*wait, dialMost) {
		next, err := c.made.newClient(c.log) // a client can be started only once
		if err != nil {
			return err
		}
		if err = next.Start(); err == nil {
			c.Client = next
			return nil
		}

		if time.Since(said) > dialSayEvery {
			said = time.Now()
			c.log.Error("the application does not listen yet; trying again until it does", "address", c.made.addr,
				"err", err)
		}

		select {
		case <-time.After(wait):
		case <-c.made.ended:
			return fmt.Errorf("told to stop before the application at %s listened: %w", c.made.addr, err)
		}
	}
}
