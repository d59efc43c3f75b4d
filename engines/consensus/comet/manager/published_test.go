package manager

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Item 34: a client that was written from the specification makes all calls at once while CometBFT
// waits for its application, and again once it is up. Each answer has the published form and is
// true.
func TestThePublishedClientGetsTrueAnswers(t *testing.T) {
	r := newRig(t, script{NotUp: true, Height: 7})
	id, err := comethome.ReadIdentity(r.home)
	require.NoError(t, err)
	own := r.identity()
	c := comettest.Published{URL: "http://" + r.m.Addr()}

	const hard, sets = 1, 3
	all := func(up bool) {
		var running sync.WaitGroup
		for n := range 4 {
			running.Go(func() {
				peer, address, ok, problem, err := c.Params(t.Context())
				assert.NoError(t, err)
				assert.True(t, ok, problem)
				assert.Equal(t, []string{id.NodeID, id.Validator.Address}, []string{peer, address})
			})
			running.Go(func() {
				hash, problem, err := c.AppHash(t.Context(), []string{"7", "", "9", "x"}[n])
				assert.NoError(t, err)
				if hash != "" { // of a process that runs
					assert.Less(t, n, 2)
					assert.Equal(t, "C0FFEE", hash)
				} else {
					assert.NotEmpty(t, problem)
				}
			})
			if n < sets {
				running.Go(func() {
					ok, problem, err := c.SetParams(t.Context(), body(own))
					assert.NoError(t, err)
					assert.True(t, ok, problem)
				})
			}
		}
		reset := func(kind string, with url.Values) {
			ok, text, err := c.Reset(t.Context(), kind, with)
			assert.NoError(t, err)
			assert.True(t, ok, text)
			assert.Equal(t, !up, strings.Contains(text, "has not shaken hands with the application yet"), text)
		}
		running.Go(func() { reset("gentle", nil) })
		for n := range hard {
			running.Go(func() { reset("hard", url.Values{"period_count": {fmt.Sprint(n + 1)}}) })
		}
		running.Wait()
	}

	all(false)
	r.script(script{Height: 7})
	ok, text, err := c.Reset(t.Context(), "gentle", nil)
	require.NoError(t, err)
	require.True(t, ok, text)
	require.NotContains(t, text, "shaken hands")
	all(true)

	s := r.awaitState(Running)
	require.Equal(t, 5, s.Resets, "as many as were answered with true")
	ok, text, err = c.Reset(t.Context(), "hard", url.Values{"period_count": {"x"}})
	require.NoError(t, err)
	require.False(t, ok)
	require.Contains(t, text, "nothing was changed")
	ok, problem, err := c.SetParams(t.Context(), map[string]any{})
	require.NoError(t, err)
	require.False(t, ok)
	require.NotEmpty(t, problem)
}
