package pubsub

import (
	"errors"
	"fmt"
)

var (
	// ErrDown says that the bus has no incarnation that serves: it was not started yet, is between
	// two incarnations, or was stopped. As the end of a subscription it says that the incarnation
	// which the subscription belonged to is over. It wraps the reason, where there is one. What to
	// do: subscribe again, and catch up from the log.
	ErrDown = errors.New("pubsub: down")

	// ErrSlow is the end of a subscription whose reader did not keep up, by its policy.
	ErrSlow = errors.New("pubsub: subscriber is too slow")

	// ErrClosed is the end of a subscription that was closed, or whose context ended; then it wraps
	// that context's cause.
	ErrClosed = errors.New("pubsub: subscription closed")

	// ErrBehind is Publish's answer where the broker is as far behind as its bound allows: the
	// event was not published, and every subscriber sees a gap in its place.
	ErrBehind = errors.New("pubsub: broker is behind")

	// ErrFilter says that a filter, a chain or its text is not one.
	ErrFilter = errors.New("pubsub: bad filter")

	// ErrOptions says that an option or a policy holds a value that it cannot take.
	ErrOptions = errors.New("pubsub: bad options")
)

// Gap says that events are missing at this place in a subscription. It is no end: events follow.
type Gap struct {
	// Missed is how many events were lost here. Of those that were lost before the chain's last
	// filter saw them it is not known whether they would have matched, and they are counted, so it
	// is an upper bound, and never 0.
	Missed uint64
}

func (g *Gap) Error() string {
	return fmt.Sprintf("pubsub: gap: up to %d events were missed", g.Missed)
}
