package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
)

// checkHealth asks a handler, and returns the answer.
func checkHealth(t *testing.T, h http.Handler) (answer map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthcheck", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	return answer
}

// The answer has the keys and types that monitoring reads. Checklist 78.
func TestHealthcheck(t *testing.T) {
	h := newRoundsHealth(resetting(1, 2, nil))
	now, healthy := time.Unix(1000, 0), true
	handler := h.handler(func() time.Time { return now }, func() bool { return healthy })
	infos := map[string]any{
		"add": map[string]any{"name": "add", "description": "", "transitions": map[string]any{
			"DONE": "reset_and_pause", "NONE": "add", "NO_MAJORITY": "add"}},
		"reset_and_pause": map[string]any{"name": "reset_and_pause",
			"description": "The agents wait for the next period and agree that this one is over.",
			"transitions": map[string]any{"DONE": "add", "NO_MAJORITY": "add", "RESET_AND_PAUSE_TIMEOUT": "add"}},
	}
	require.Equal(t, map[string]any{"seconds_since_last_transition": nil, "is_tm_healthy": true, "period": 0.0,
		"reset_pause_duration": 0.01, "is_transitioning_fast": nil, "rounds": []any{}, "rounds_info": infos},
		checkHealth(t, handler))

	// A round counts from its entry on, also if more blocks change it.
	h.saw("add", 1, 0, time.Unix(999, 995_000_000))
	h.saw("add", 1, 0, time.Unix(1000, 0))
	a := checkHealth(t, handler)
	require.Equal(t, 0.005, a["seconds_since_last_transition"])
	require.Equal(t, true, a["is_transitioning_fast"])
	require.Equal(t, []any{"add"}, a["rounds"])

	healthy = false
	require.Equal(t, false, checkHealth(t, handler)["is_transitioning_fast"])
	healthy, now = true, time.Unix(1003, 0)
	a = checkHealth(t, handler)
	require.Equal(t, false, a["is_transitioning_fast"], "more than two pauses")
	require.InDelta(t, 3.005, a["seconds_since_last_transition"], 1e-9)

	// The same round again is another entry. The last 25 stay, and the current one.
	for i := range 30 {
		h.saw(rounds.Name(fmt.Sprint("r", i/2)), uint64(i+2), 7, now)
	}
	a = checkHealth(t, handler)
	require.Len(t, a["rounds"], 26)
	require.Equal(t, []any{"r2", "r2", "r3"}, a["rounds"].([]any)[:3])
	require.Equal(t, 7.0, a["period"])
	require.Equal(t, 0.0, a["seconds_since_last_transition"])

	// A service without periods has no pause, and so no measure of what is fast.
	h = newRoundsHealth(adding(nil, time.Second))
	h.saw("add", 1, 0, now)
	a = checkHealth(t, h.handler(func() time.Time { return now }, func() bool { return true }))
	require.Nil(t, a["reset_pause_duration"])
	require.Nil(t, a["is_transitioning_fast"])
}
