package comet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet/bootstrap"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager"
)

// Times of a rebuild.
const (
	// baseRetry is the time between two questions to the peers for a base. It doubles up to
	// renewMost.
	baseRetry = 500 * time.Millisecond

	// basePatience is how long a node whose data is whole waits for a base. Then it goes on with
	// its data. The next block of a chain that needs this validator never comes.
	basePatience = 10 * time.Second
)

// rebuild carries out the order to rebuild CometBFT's data, if one stands in the home, between two
// processes. The order is durable: nothing is removed before the base is checked and written down,
// and a start after a crash goes on from there. It returns an error only if no start may follow.
func (t *tree) rebuild(ctx context.Context, s chain.State) error {
	order, err := comethome.ReadRebuilding(t.Home)
	if err != nil || order == nil {
		return err
	}

	if t.resets.outcome.Load() != nil {
		t.Log.Info("Tendermint process stopped")
	}
	if order.ChainID != s.ChainID {
		return t.withdraw(fmt.Errorf("it was ordered for chain %s, and the home is of %s", order.ChainID, s.ChainID))
	}

	b, err := t.written(order, s)
	if err == nil && b == nil {
		if b, err = t.awaitBase(ctx, order, s); errors.Is(err, bootstrap.ErrNone) {
			return t.withdraw(err)
		}
	}
	if err != nil {
		return err
	}

	proof, err := b.Encode()
	if err != nil {
		return err
	}
	order.Next, order.Proof = uint64(b.Next.Height), proof
	return t.carryOut(ctx, order, b)
}

// written returns the base that an earlier start has written into the order, or nil if there is
// none for state s.
func (t *tree) written(order *comethome.Rebuilding, s chain.State) (*bootstrap.Base, error) {
	if !order.Begun() || order.Next != s.Next() {
		return nil, nil
	}
	b, err := bootstrap.Decode(order.Proof)
	if err == nil {
		err = b.Check(s, t.Home)
	}
	if err != nil {
		t.Log.Warn("what was written for the rebuild of CometBFT's data is of no use, and is fetched again",
			zap.Error(err))
		return nil, nil
	}
	return &b, nil
}

// awaitBase asks the peers until one has a base. If CometBFT can go on with the data that it has,
// awaitBase gives up after basePatience.
func (t *tree) awaitBase(ctx context.Context, order *comethome.Rebuilding, s chain.State) (*bootstrap.Base, error) {
	from, err := t.witnesses(append(order.From, t.rpcAddresses(ctx)...))
	if err != nil {
		t.Log.Warn("a peer cannot be asked", zap.Error(err))
	}
	defer func() {
		for _, w := range from {
			w.Close()
		}
	}()

	defer t.health.rebuilds(nil)
	began, told := time.Now(), ""

	for wait := baseRetry; ; wait = min(2*wait, renewMost) {
		b, err := bootstrap.Find(ctx, t.Home, s, from)
		if err == nil {
			return &b, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		if time.Since(began) > basePatience && t.wholeData(s) {
			return nil, err
		}

		t.health.rebuilds(err)
		if text := err.Error(); text != told && time.Since(began) > basePatience {
			told = text
			t.Log.Warn("CometBFT's data is to be rebuilt, and cannot be yet", zap.Error(err))
			t.resets.machine.Note(manager.Hard, "the data of CometBFT cannot be rebuilt yet: "+text, nil)
		}
		if err := engines.Pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// wholeData reports whether CometBFT's data seems to be whole.
func (t *tree) wholeData(s chain.State) bool {
	c, err := comethome.LoadConfig(t.Home)
	return err == nil && comethome.CheckChainData(c, s.Height) == nil
}

// withdraw ends an order that is not carried out. Nothing was removed.
func (t *tree) withdraw(why error) error {
	t.Log.Warn("CometBFT's data is not rebuilt, and CometBFT goes on with what it has", zap.Error(why))
	t.resets.machine.Note("", "the data of CometBFT is not rebuilt: "+why.Error(), nil)
	if err := comethome.EndRebuilding(t.Home); err != nil {
		return err
	}
	t.resets.rebuilt(why)
	return nil
}

// carryOut rebuilds the data, and tries until it succeeds: some of the old data may be gone.
func (t *tree) carryOut(ctx context.Context, order *comethome.Rebuilding, b *bootstrap.Base) error {
	for wait := renewRetry; ; wait = min(2*wait, renewMost) {
		err := order.Order(t.Home)
		if err == nil {
			err = b.Rebuild(t.Home)
		}
		if err == nil {
			err = comethome.EndRebuilding(t.Home)
		}
		t.health.rebuilds(err)
		if err == nil {
			break
		}

		t.Log.Warn("the data of CometBFT cannot be rebuilt yet", zap.Error(err))
		if err := engines.Pause(ctx, wait); err != nil {
			return err
		}
	}

	t.tellRebuilt(b)
	t.stateSync = false
	t.resets.rebuilt(nil)

	return nil
}

// tellRebuilt says the published lines of a hard reset. The chain id stays, so the signing state
// does, too.
func (t *tree) tellRebuilt(b *bootstrap.Base) {
	signing := "Kept private validator state"
	if height, _, _, ours, err := comethome.Signed(t.Home); err == nil && ours {
		signing = fmt.Sprintf("%s at height %d", signing, height)
	}
	for _, line := range []string{"Removed existing address book", "Removed all blockchain history", signing} {
		t.Log.Info(line)
	}

	text := fmt.Sprintf("the data of CometBFT was rebuilt: it begins at block %d of %s", b.Next.Height, b.Next.ChainID)
	t.Log.Info(text)
	t.resets.machine.Note(manager.Hard, text, nil)
}

// witnesses returns those who are asked for a base: the CometBFT RPCs at the addresses, and the
// peers by their APIs. The error names the addresses that are invalid.
func (t *tree) witnesses(addresses []string) ([]bootstrap.Witness, error) {
	from, err := bootstrap.RPCs(addresses)
	for _, p := range t.core.Peers {
		from = append(from, bootstrap.Peer(p))
	}
	return from, err
}

// rpcAddresses returns the RPC addresses of peers: those of [statesync] rpc_servers, and those that
// the peers of the running CometBFT have told, as far as they can be reached from here.
func (t *tree) rpcAddresses(ctx context.Context) (addresses []string) {
	add := func(a string) {
		if a != "" && !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}

	if c, err := comethome.LoadConfig(t.Home); err == nil {
		for _, a := range c.StateSync.RPCServers {
			add(a)
		}
	}

	c, err := newRPC(t.rpcSocket())
	if err != nil {
		return addresses
	}
	defer c.close()

	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	info, err := c.NetInfo(ctx)
	if err != nil {
		return addresses // CometBFT is down, or hangs
	}
	for _, p := range info.Peers {
		add(bootstrap.Reachable(p.NodeInfo.Other.RPCAddress, p.RemoteIP))
	}

	return addresses
}
