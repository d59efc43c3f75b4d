package pubsub

import (
	"errors"
	"fmt"
)

var (
	// ErrDown means that no incarnation of the bus serves: the bus was not started yet, is between
	// two incarnations, or was stopped. A subscription ends with it when the incarnation that the
	// subscription belongs to is over. It wraps the reason, where there is one. Subscribe again,
	// and catch up from the log.
	ErrDown = errors.New("pubsub: down")

	// ErrSlow ends a subscription whose reader did not keep up, as its policy says.
	ErrSlow = errors.New("pubsub: subscriber is too slow")

	// ErrClosed ends a subscription that was closed, or whose context ended. In the second case it
	// wraps the cause of that context.
	ErrClosed = errors.New("pubsub: subscription closed")

	// ErrBehind is returned by Publish when the broker is as far behind as its bound allows. The
	// event was not published, and every subscriber sees a gap in its place.
	ErrBehind = errors.New("pubsub: broker is behind")

	// ErrFilter means that a filter, a chain or the text of a chain is invalid.
	ErrFilter = errors.New("pubsub: bad filter")

	// ErrOptions means that an option or a policy has an invalid value.
	ErrOptions = errors.New("pubsub: bad options")
)

// Gap reports that events are missing at this place in a subscription. It does not end the
// subscription: events follow.
type Gap struct {
	// Missed is an upper bound of the number of events that were lost here, and never 0. It counts
	// every event that was lost before the chain's last filter saw it, whether or not that event
	// would have matched.
	Missed uint64
}

func (g *Gap) Error() string {
	return fmt.Sprintf("pubsub: gap: up to %d events were missed", g.Missed)
}
