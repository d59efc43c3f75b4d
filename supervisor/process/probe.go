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

// Probe says when a process is ready. The zero Probe is passed at once. Probes have no state of a
// run, so one Spec serves all incarnations.
type Probe struct {
	line  func(line []byte) bool
	try   func(ctx context.Context) error
	wrong error // how it was made
}

const (
	// attemptTime bounds one attempt to dial or to get: a process that is not ready yet may accept
	// and not answer.
	attemptTime = time.Second
	// A probe is tried again after firstPause, then after twice that, and so on up to lastPause.
	firstPause = time.Millisecond
	lastPause  = 50 * time.Millisecond
)

// Line is passed by the first line, on stdout or stderr, that match accepts; regexp.Regexp's Match
// is one. Long lines are matched in pieces, see Spec.MaxLine. Calls do not overlap; the line is
// valid during the call only.
func Line(match func(line []byte) bool) Probe {
	if match == nil {
		return Probe{wrong: errors.New("Line without a function")}
	}
	return Probe{line: match}
}

// Func is passed when f returns nil. It is called again until then, in the goroutine of the start;
// its context is done when the process has ended, has been told to, or was not ready in time.
func Func(f func(ctx context.Context) error) Probe {
	if f == nil {
		return Probe{wrong: errors.New("Func without a function")}
	}
	return Probe{try: f}
}

// Dial is passed when a connection is accepted; the network is tcp, tcp4, tcp6 or unix. It cannot
// know who accepts: an address that somebody else may listen on is no proof.
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

// HTTP is passed when a GET of the URL is answered with a status of 200 to 299. Redirects are not
// followed, proxies not used.
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

// File is passed when the path exists. One that a former incarnation has left counts too, so the
// process must remove it first, or each incarnation must have its own.
func File(path string) Probe {
	return Probe{try: func(context.Context) error {
		_, err := os.Stat(path)
		return err
	}}
}

// wait returns nil when the probe is passed, and else the last that was wrong, when ctx is done.
func (p Probe) wait(ctx context.Context, matched <-chan struct{}) error {
	switch {
	case p.line != nil:
		select {
		case <-matched:
			return nil
		case <-ctx.Done():
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
		if ctx.Err() != nil { // the attempt was cut short: the one before knows more
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
