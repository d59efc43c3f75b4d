package streams

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/supervisor"
)

// maxBugs is how many ends of class Bug in a row at one cursor end the attempts.
const maxBugs = 5

// writer is the service of a slot: it delivers, and after each failure does what the failure's
// class asks for.
type writer struct {
	*slot
	attempt int // consecutive failures without progress

	// The definition as it was when the session began.
	def     Definition
	defErr  error
	factory Factory
	secrets Secrets
}

// load takes the definition of the slot as it is now.
func (w *writer) load() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.def, w.defErr, w.factory, w.secrets = w.slot.def, w.slot.defErr, w.slot.factory, w.slot.secrets
}

// String names the service in reports.
func (w *writer) String() string { return "stream " + w.name }

// Serve delivers until ctx ends. Only a failure of class Bug ends it otherwise.
func (w *writer) Serve(ctx context.Context) error {
	faults := supervisor.Faults(ctx)

	for ctx.Err() == nil {
		poked := w.poked()
		w.load()
		before := w.snapshot().Acked.Position

		session, cancel := context.WithCancelCause(ctx)
		ended := make(chan error, 1)
		go func() {
			ended <- guarded("the stream", func() error { return w.session(session) })
		}()

		var err error
		select {
		case err = <-ended:
		case <-poked:
			cancel(errPoked)
			<-ended
			err = errPoked
		case f := <-faults:
			cancel(errPoked)
			<-ended
			f.Do(ctx)
			continue
		}
		cancel(nil)

		if w.snapshot().Acked.Position != before {
			w.attempt = 0
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errPoked) {
			w.attempt = 0
			continue
		}

		if err := w.failed(ctx, err, poked); err != nil {
			return err
		}
	}

	return context.Cause(ctx)
}

// errPoked ends a session because an operator did something to the slot.
var errPoked = errors.New("the slot is looked at again")

// failed sets the state after a failure, and waits until the next attempt. Its error ends the
// service.
func (w *writer) failed(ctx context.Context, err error, poked <-chan struct{}) error {
	class := ClassOf(err)
	w.attempt++
	w.count(func(c *Counts) { c.Retries[class]++ })
	if w.attempt == 1 || class != Unreachable {
		w.s.o.Diagnostics.Warn("a stream has failed", zap.String("stream", w.name), zap.String("class", string(class)),
			zap.Error(err))
	}

	switch class {
	case Unreachable, BadOrder, Regressed:
		w.set(Retrying, err)
		return w.pause(ctx, poked, backoff(w.attempt, 100*time.Millisecond, 30*time.Second), false)
	case Full:
		w.set(Retrying, err)
		return w.pause(ctx, poked, backoff(w.attempt, 100*time.Millisecond, 5*time.Minute), false)
	case Unauthorised:
		w.set(Retrying, err)
		return w.pause(ctx, poked, backoff(w.attempt, 30*time.Second, 5*time.Minute), true)
	case Ahead:
		w.set(AheadOf, err)
		if w.s.o.Alone {
			return w.pause(ctx, poked, 0, false)
		}
		return w.pause(ctx, poked, time.Second, false)
	case Fenced:
		if w.def.Standby {
			w.set(Standby, nil)
			return nil // the next session watches
		}
		w.set(FencedOff, err)
		return w.pause(ctx, poked, fencedPause, false) // the next session looks whether the claim is lost
	case GapInLog:
		w.set(InGap, err)
		if w.def.OnGap == "wait" {
			return w.pause(ctx, poked, time.Second, false)
		}
		return w.pause(ctx, poked, 0, false)
	case Lost:
		w.set(LostLog, err)
		return w.pause(ctx, poked, 0, false)
	case Bug:
		return w.bug(ctx, err, poked)
	}

	w.set(Failed, err)
	return w.pause(ctx, poked, 0, class == Misconfigured)
}

// bug ends the service, so that its supervisor starts it again; after maxBugs in a row at one
// cursor it waits for an operator instead.
func (w *writer) bug(ctx context.Context, err error, poked <-chan struct{}) error {
	w.mu.Lock()
	w.beaten++
	w.beatenAt = w.file.Acked
	w.counts.Restarts++
	n := w.beaten
	w.mu.Unlock()

	if n < maxBugs {
		w.set(Retrying, err)
		return err
	}

	w.set(Failed, fmt.Errorf("%d times in a row: %w", n, err))

	return w.pause(ctx, poked, 0, false)
}

// backoff returns how long to wait after a number of failures, with jitter.
func backoff(attempt int, least, most time.Duration) time.Duration {
	d := least << min(attempt-1, 30)
	if d <= 0 || d > most {
		d = most
	}
	return d/2 + rand.N(d/2+1)
}

// fencedPause is the time after which a fenced writer looks at the sink.
const fencedPause = 100 * time.Millisecond

// secretsEvery is how often a slot looks whether a file of a secret has changed.
const secretsEvery = time.Second

// pause waits: for a time (0: without end), for an act of an operator, and with secrets until a
// file of a secret has changed.
func (w *writer) pause(ctx context.Context, poked <-chan struct{}, d time.Duration, secrets bool) error {
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	look := time.NewTicker(secretsEvery)
	defer look.Stop()
	faults := supervisor.Faults(ctx)

	for {
		select {
		case <-over:
			return nil
		case <-poked:
			w.attempt = 0
			return nil
		case <-look.C:
			if secrets && w.secrets.Changed() {
				return nil
			}
		case f := <-faults:
			f.Do(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
