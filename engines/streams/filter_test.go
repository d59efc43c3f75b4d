package streams

import (
	"testing"

	"github.com/stretchr/testify/require"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/pubsub"
)

// A word that no event has is refused: such a filter would silently leave out everything. R18.
func TestABadFilterIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"kind=chnge":    "want one of reset, started, block, tx, change",
		"kind=change|":  "want one of reset",
		"code=fine":     "want one of 0, 1",
		"changed=other": "want one of put, delete, value, or several with | between them",
		"keys=a":        `no filter is called "keys"`,
	} {
		_, err := ParseFilter([]string{"kind=change", text})
		require.ErrorIs(t, err, pubsub.ErrFilter, text)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "chain 2 of the filter", text)
	}
}

// Several words match what one of them matches. R18.
func TestAFilterTakesSeveralWords(t *testing.T) {
	f, err := ParseFilter([]string{"kind=change|outcome,code=failed|0", "changed=delete"})
	require.NoError(t, err)
	match := func(b Body, c logv1.Code) bool { return f.match(filtered{Event: Event{Body: b}, code: c, inTx: true}) }
	require.True(t, match(&Change{}, logv1.Code_CODE_OK))
	require.True(t, match(&Outcome{}, logv1.Code_CODE_FAILED))
	require.False(t, match(&Outcome{}, logv1.Code_CODE_LIMIT))
	require.False(t, match(&Tx{}, logv1.Code_CODE_OK))
	require.True(t, match(&Change{Delete: true}, logv1.Code_CODE_LIMIT))
	require.False(t, f.asksForValues())
}

// changed=value leaves out a put that changes nothing. R18.
func TestAFilterAsksForAnotherValue(t *testing.T) {
	f, err := ParseFilter([]string{"key=a,changed=delete|value"})
	require.NoError(t, err)
	require.True(t, f.asksForValues())
	match := func(c *Change) bool {
		c.Key = []byte("a")
		return f.match(filtered{Event: Event{Body: c}})
	}
	had := Before{State: BeforeValue, Value: []byte("v")}
	require.False(t, match(&Change{Value: []byte("v"), Before: had}))
	require.True(t, match(&Change{Value: []byte("w"), Before: had}))
	require.True(t, match(&Change{Before: Before{State: BeforeAbsent}}), "an empty value where there was none")
	require.True(t, match(&Change{Delete: true, Before: had}))
}
