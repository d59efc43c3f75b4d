package api

import (
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// ReadinessOf returns a condition in its wire form.
func ReadinessOf(c consensus.Condition) *apiv1.Readiness {
	r := &apiv1.Readiness{
		State: string(c.State), Reason: c.Reason, Since: timestamp(c.Since),
		Height: c.Height, PeersHeight: c.PeersHeight,
		CatchingUp: c.CatchingUp, PeersConnected: uint32(max(0, c.PeersConnected)),
		PeersConfigured: uint32(max(0, c.PeersConfigured)), PowerPresent: c.PowerPresent, PowerTotal: c.PowerTotal,
		Missing: c.Missing, Signing: string(c.Signing), Evidence: c.Evidence,
	}

	if c.ClockOffset != 0 {
		r.ClockOffset = durationpb.New(c.ClockOffset)
	}

	if h := c.Hold; h != nil {
		r.Hold = &apiv1.Hold{Epoch: h.Epoch, Height: h.Height, Since: timestamp(h.Since), Step: uint32(h.Step),
			Text: h.Text, Long: h.Long}
	}
	if c.Process != nil {
		r.Process = ProcessOf(engines.ProcessChanged(*c.Process))
	}

	for _, w := range c.Warnings {
		r.Warnings = append(r.Warnings, &apiv1.ReadinessWarning{State: string(w.State), Reason: w.Reason})
	}

	return r
}

// ReadinessKind is the name of the kind of the event that reports a change of readiness.
const ReadinessKind = "ReadinessChanged"

// ReadinessEventOf returns a change of readiness in its wire form.
func ReadinessEventOf(e engines.ReadinessChanged) *apiv1.Readiness {
	return &apiv1.Readiness{State: e.State, Reason: e.Reason, Since: timestamp(e.Since)}
}

// ProcessKind is the name of the kind of the event that reports a change of the process of the
// consensus.
const ProcessKind = "ProcessChanged"

// ProcessOf returns a change of the process of the consensus in its wire form.
func ProcessOf(p engines.ProcessChanged) *apiv1.ConsensusProcess {
	return &apiv1.ConsensusProcess{State: p.State, Text: p.Text, At: timestamp(p.At), Since: timestamp(p.Since),
		Restarts: uint64(max(0, p.Restarts)), Resets: uint64(max(0, p.Resets))}
}

// ReadyHandler returns the handler of /readyz. It answers 200 when the node is ready, and 503 with
// the state and the reason when it is not. Warnings follow, one a line.
func ReadyHandler(h Host) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c := h.Health()
		code, text := http.StatusOK, "ready\n"
		if !c.Able() {
			code, text = http.StatusServiceUnavailable, fmt.Sprintf("not ready: %s\n", c)
		}

		plain(w, code, text+warnings(c))
	})
}

// LiveHandler returns the handler of /healthz, a liveness probe. It answers 200 as long as the
// process serves, whether or not the node is ready: a probe that ended a node which only waits, or
// replays its log, would never let it come up. A node that cannot go on ends by itself.
func LiveHandler(h Host) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusOK, fmt.Sprintf("alive; %s\n", h.Health()))
	})
}

func warnings(c consensus.Condition) string {
	var b strings.Builder
	for _, w := range c.Warnings {
		fmt.Fprintf(&b, "warning: %s: %s\n", w.State, w.Reason)
	}
	return b.String()
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	fmt.Fprint(w, text) // if the client is gone, it reads nothing
}
