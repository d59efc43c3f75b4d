package treemetrics_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/treemetrics"
)

func TestTheHandlerWritesPrometheusText(t *testing.T) {
	m := &treemetrics.Metrics{}
	s, err := supervisor.New(supervisor.Spec{
		Name: "shop", Observers: []supervisor.Observer{m},
		Build: supervisor.Children(child(`a "till"`),
			supervisor.Child{ID: "lamp", Restart: supervisor.Temporary, Start: supervisor.Start(ending(errors.New("out")))}),
	})
	require.NoError(t, err)
	run, err := s.Start(t.Context())
	require.NoError(t, err)
	defer run.Stop(context.Background())

	scrape := func() string {
		w := httptest.NewRecorder()
		treemetrics.Handler(m, s.Tree).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		require.Equal(t, "text/plain; version=0.0.4; charset=utf-8", w.Header().Get("Content-Type"))
		return w.Body.String()
	}
	for m.Snapshot().Total.Exits.Abnormal == 0 {
		require.NoError(t, run.Flush(t.Context()))
	}

	text := scrape()
	for _, line := range []string{
		"# TYPE coppice_tree_starts_total counter",
		`coppice_tree_starts_total{path="a \"till\""} 1`,
		`coppice_tree_exits_total{path="lamp",class="abnormal"} 1`,
		`coppice_tree_running{path="a \"till\""} 1`,
		`coppice_tree_restart_window_used_ratio{path=""} 0`,
		"coppice_tree_orphans 0",
		"coppice_tree_events_lost_total 0",
	} {
		require.Contains(t, text, line+"\n")
	}

	sample := regexp.MustCompile(`^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{path="([^"\\]|\\.)*"(,class="[a-z]+")?\})? [0-9.]+)$`)
	for line := range strings.Lines(text) {
		require.Regexp(t, sample, strings.TrimSuffix(line, "\n"))
	}
}
