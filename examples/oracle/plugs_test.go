package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/node/exit"
)

func TestAnHTTPSource(t *testing.T) {
	status, answer := http.StatusOK, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	ask := HTTP(server.URL)

	for _, c := range []struct {
		status int
		answer string
		cents  int64
		says   string
	}{
		{200, `{"cents": 6412345, "currency": "USD"}`, 6412345, ""},
		{200, `{"cents": 1.5}`, 0, `want {"cents": N}`},
		{200, `none`, 0, `want {"cents": N}`},
		{200, `{}`, 0, "cents is missing or 0, want more than 0"},
		{200, `{"cents": -3}`, 0, "cents is missing or -3, want more than 0"},
		{503, `{"cents": 1}`, 0, "status 503 Service Unavailable, want 200"},
		{200, `{"x": "` + strings.Repeat("x", sourceBytes) + `", "cents": 1}`, 0, `want {"cents": N}`},
	} {
		status, answer = c.status, c.answer
		cents, err := ask(t.Context(), 1)
		if c.says != "" {
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, server.URL)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.cents, cents)
	}
}

func TestTheSyntheticSourceStaysNearItsMiddle(t *testing.T) {
	now := time.Unix(0, 0)
	ask := Synthetic(func() time.Time { return now })
	low, high := int64(1<<62), int64(0)
	for range 600 {
		now = now.Add(time.Second)
		cents, err := ask(t.Context(), 1)
		require.NoError(t, err)
		low, high = min(low, cents), max(high, cents)
	}
	require.InDelta(t, 63_100_00, low, 50_00)
	require.InDelta(t, 64_900_00, high, 50_00)
}

// Processes that publish a report at once make one file, and another content is refused.
func TestFilesPublishOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "reports")
	r := Report{Number: 7, Cents: 5, Prices: map[rounds.Agent]int64{"a": 5}}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := Files(dir)(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()

	other := r
	other.Cents = 6
	require.ErrorIs(t, Files(dir)(t.Context(), other), ErrPublished)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing else is left behind")
	text, err := os.ReadFile(filepath.Join(dir, "000007.json"))
	require.NoError(t, err)
	require.Equal(t, `{"number":7,"cents":5,"prices":{"a":5}}`+"\n", string(text))

	blocked := filepath.Join(dir, "000007.json")
	require.Error(t, Files(blocked)(t.Context(), r), "a file is no directory")
}

func TestPrint(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, Print(&out)(t.Context(), Report{Number: 1, Cents: 5}))
	require.Equal(t, `{"number":1,"cents":5}`+"\n", out.String())
	require.Equal(t, "report 2: 50.07, the median of a 50.07, b 61.00",
		fmt.Sprint(Report{2, 5007, map[rounds.Agent]int64{"b": 6100, "a": 5007}}))
}

func TestTheEnvironmentIsChecked(t *testing.T) {
	for _, url := range []string{"example.com", "ftp://example.com", "http://", "http://[::1"} {
		t.Setenv(sourceVar, url)
		_, err := fromEnvironment()
		require.ErrorIs(t, err, exit.ErrConfig)
		require.ErrorContains(t, err, fmt.Sprintf("ORACLE_SOURCE is %q, want an http or https URL", url))
	}
	t.Setenv(sourceVar, "http://localhost:1234/price")
	_, err := fromEnvironment()
	require.NoError(t, err)
}
