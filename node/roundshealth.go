package node

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/node/api"
)

// shownRounds is how many of the last rounds /healthcheck shows, besides the current one.
const shownRounds = 25

// roundsHealth tells at /healthcheck how the node's service gets on, with the keys that existing
// monitoring reads. It knows the rounds since the node's process has begun.
type roundsHealth struct {
	infos map[rounds.Name]rounds.Info
	pause *time.Duration // between two periods; nil: the service has none

	mu      sync.Mutex
	rounds  []rounds.Name // the current one last
	count   uint64
	period  uint64
	entered time.Time // the current round, in block time; zero: no round is known
}

func newRoundsHealth[S any](service *rounds.Service[S]) *roundsHealth {
	h := &roundsHealth{infos: service.Infos()}
	if p, ok := service.Period(); ok {
		h.pause = &p.Pause
	}
	return h
}

// saw notes the round that the service is in, and when it was entered.
func (h *roundsHealth) saw(round rounds.Name, count, period uint64, entered time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.period = period
	if n := len(h.rounds); n > 0 && h.count == count && h.rounds[n-1] == round {
		return
	}

	h.count, h.entered = count, entered
	h.rounds = append(h.rounds, round)
	if more := len(h.rounds) - shownRounds - 1; more > 0 {
		h.rounds = h.rounds[more:]
	}
}

// healthcheck is the answer. What is not known is null.
type healthcheck struct {
	Seconds *float64                    `json:"seconds_since_last_transition"`
	Healthy bool                        `json:"is_tm_healthy"`
	Period  uint64                      `json:"period"`
	Pause   *float64                    `json:"reset_pause_duration"` // in seconds
	Fast    *bool                       `json:"is_transitioning_fast"`
	Rounds  []rounds.Name               `json:"rounds"`
	Infos   map[rounds.Name]rounds.Info `json:"rounds_info"`
}

// answer returns the answer at a time. A service is fast if its chain is healthy and the current
// round lasts less than two pauses.
func (h *roundsHealth) answer(now time.Time, healthy bool) healthcheck {
	h.mu.Lock()
	defer h.mu.Unlock()

	out := healthcheck{Healthy: healthy, Period: h.period, Infos: h.infos,
		Rounds: append([]rounds.Name{}, h.rounds...)}
	if h.pause != nil {
		seconds := h.pause.Seconds()
		out.Pause = &seconds
	}
	if h.entered.IsZero() {
		return out
	}

	seconds := max(0, now.Sub(h.entered).Seconds())
	out.Seconds = &seconds
	if out.Pause != nil {
		fast := healthy && seconds < 2**out.Pause
		out.Fast = &fast
	}
	return out
}

// healthHandler returns the handler of /healthcheck. The chain is healthy if the node is ready.
func (n *Node) healthHandler() http.Handler {
	healthy := func() bool { c := n.ready.Condition(); return c.Able() }
	return api.Unread(n.service.handler(n.now, healthy))
}

// handler returns the handler of /healthcheck.
func (h *roundsHealth) handler(now func() time.Time, healthy func() bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(h.answer(now(), healthy())) // if the client is gone, it reads nothing
	})
}
