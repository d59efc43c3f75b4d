package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// Probe decides when a process is ready. The zero Probe passes at once. Probes keep no state of a
// run, so all incarnations can use one Spec.
type Probe struct {
	line  func(line []byte) bool
	try   func(ctx context.Context) error
	wrong error // why the probe is invalid
}

const (
	// attemptTime bounds one attempt of Dial or HTTP: a process that is not ready yet may accept a
	// connection and not answer.
	attemptTime = time.Second
	// A probe is tried again after firstPause, then after twice that, and so on up to lastPause.
	firstPause = time.Millisecond
	lastPause  = 50 * time.Millisecond
)

// Line returns a probe that passes at the first line, on stdout or stderr, that match accepts.
// match may be regexp.Regexp's method Match. Long lines are matched in pieces, see Spec.MaxLine.
// Calls do not overlap. The line is valid during the call only.
func Line(match func(line []byte) bool) Probe {
	if match == nil {
		return Probe{wrong: errors.New("Line without a function")}
	}
	return Probe{line: match}
}

// Func returns a probe that passes when f returns nil. f is called again until then, in the
// goroutine of the start. Its context is done when the process has ended, has been told to end, or
// was not ready in time.
func Func(f func(ctx context.Context) error) Probe {
	if f == nil {
		return Probe{wrong: errors.New("Func without a function")}
	}
	return Probe{try: f}
}

// Dial returns a probe that passes when a connection is accepted. The network is tcp, tcp4, tcp6 or
// unix. Dial cannot know which process accepts: use an address that no other process listens on.
func Dial(network, address string) Probe {
	switch network {
	case "tcp", "tcp4", "tcp6", "unix":
	default:
		return Probe{wrong: fmt.Errorf("Dial on network %q; expected tcp, tcp4, tcp6 or unix", network)}
	}
	return Probe{try: func(ctx context.Context) error {
		d := net.Dialer{Timeout: attemptTime}
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return err
		}
		return c.Close()
	}}
}

// HTTP returns a probe that passes when a GET of the URL is answered with a status of 200 to 299.
// It follows no redirects and uses no proxies.
func HTTP(url string) Probe {
	if _, err := http.NewRequest(http.MethodGet, url, nil); err != nil {
		return Probe{wrong: err}
	}
	return Probe{try: func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, attemptTime)
		defer cancel()

		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}

		transport := &http.Transport{DisableKeepAlives: true}
		defer transport.CloseIdleConnections()

		resp, err := transport.RoundTrip(req)
		if err != nil {
			return err
		}

		_, _ = io.CopyN(io.Discard, resp.Body, DefaultMaxLine) // the status is the answer
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode < 200 || resp.StatusCode > 299 {
			return fmt.Errorf("GET %s: %s", url, resp.Status)
		}

		return nil
	}}
}

// File returns a probe that passes when the path exists. A file that a former incarnation has left
// counts too, so the process must remove it first, or each incarnation must use a path of its own.
func File(path string) Probe {
	return Probe{try: func(context.Context) error {
		_, err := os.Stat(path)
		return err
	}}
}

// wait returns nil when the probe passes. If ctx is done first, it returns why the last attempt
// failed.
func (p Probe) wait(ctx context.Context, matched <-chan struct{}) error {
	switch {
	case p.line != nil:
		select {
		case <-matched:
			return nil
		case <-ctx.Done():
		}

		select {
		case <-matched: // both at once: it was ready, and then it ended
			return nil
		default:
			return errors.New("no line on its output has matched")
		}
	case p.try != nil:
		return p.poll(ctx)
	}
	return nil
}

func (p Probe) poll(ctx context.Context) error {
	pause := firstPause
	timer := time.NewTimer(pause)
	defer timer.Stop()

	last := errors.New("the probe was not answered at all")

	for {
		err := p.try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil { // the attempt was cut short: the error before it says more
			return last
		}

		last = err
		timer.Reset(pause)

		select {
		case <-timer.C:
		case <-ctx.Done():
			return last
		}

		pause = min(2*pause, lastPause)
	}
}
