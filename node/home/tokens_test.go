package home

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/plan"
)

func newHome(t *testing.T) string {
	t.Helper()
	if _, ok := consensus.Lookup(solo.Name); !ok {
		consensus.Register(solo.Kind{})
	}
	dir := t.TempDir()
	_, err := Init(dir, InitOptions{ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Default})
	require.NoError(t, err)
	return dir
}

func secretOf(t *testing.T, dir string, a api.Access) string {
	t.Helper()
	s, err := ReadToken(filepath.Join(dir, a.File()))
	require.NoError(t, err)
	return s
}

// accepts reports which of the secrets the tokens know and have not let expire.
func accepts(t *Tokens, a api.Access, secret string) bool {
	for _, k := range t.Current() {
		if k.Access == a && k.Secret == secret {
			return k.Expires.IsZero() || time.Now().Before(k.Expires)
		}
	}
	return false
}

// A running node follows the files: the new token counts at once, and the old one until
// the grace is over.
func TestATokenIsRotatedWhileTheNodeRuns(t *testing.T) {
	dir := newHome(t)

	for _, a := range api.Levels {
		synctest.Test(t, func(t *testing.T) {
			logged, logs := observer.New(zap.InfoLevel)
			tokens, err := OpenTokens(dir, zap.New(logged))
			require.NoError(t, err)
			old := secretOf(t, dir, a)
			require.True(t, accepts(tokens, a, old))

			path, expires, err := RotateToken(dir, a, time.Minute)
			require.NoError(t, err)
			require.Equal(t, filepath.Join(dir, a.File()), path)
			require.WithinDuration(t, time.Now().Add(time.Minute), expires, time.Second)

			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode())

			now := secretOf(t, dir, a)
			require.NotEqual(t, old, now)
			<-time.After(FollowTokens) // of the bubble's clock
			require.True(t, accepts(tokens, a, now))
			require.True(t, accepts(tokens, a, old))
			require.Equal(t, 1, logs.FilterMessage("tokens were changed").Len())

			for _, e := range logs.All() {
				require.NotContains(t, e.ContextMap(), now)
			}

			<-time.After(time.Minute)
			require.True(t, accepts(tokens, a, now))
			require.False(t, accepts(tokens, a, old))
		})
	}
}

// Without a grace the old token ends at once, one that was replaced earlier too.
func TestATokenThatLeakedEndsAtOnce(t *testing.T) {
	dir := newHome(t)
	first := secretOf(t, dir, api.AdminAccess)
	_, _, err := RotateToken(dir, api.AdminAccess, time.Hour)
	require.NoError(t, err)
	second := secretOf(t, dir, api.AdminAccess)

	tokens, err := OpenTokens(dir, zap.NewNop())
	require.NoError(t, err)
	require.True(t, accepts(tokens, api.AdminAccess, first))

	_, expires, err := RotateToken(dir, api.AdminAccess, 0)
	require.NoError(t, err)
	require.True(t, expires.IsZero())
	require.NoError(t, tokens.Reload())
	require.False(t, accepts(tokens, api.AdminAccess, first))
	require.False(t, accepts(tokens, api.AdminAccess, second))
	require.True(t, accepts(tokens, api.AdminAccess, secretOf(t, dir, api.AdminAccess)))
}

// A file that cannot be used leaves the tokens in force, and is reported once. A token other than
// the admin token may be removed.
func TestABadTokenFileChangesNothing(t *testing.T) {
	dir := newHome(t)

	synctest.Test(t, func(t *testing.T) {
		logged, logs := observer.New(zap.ErrorLevel)
		tokens, err := OpenTokens(dir, zap.New(logged))
		require.NoError(t, err)
		admin := secretOf(t, dir, api.AdminAccess)
		submit := secretOf(t, dir, api.SubmitAccess)

		for name, text := range map[string]string{
			"admin.token": "short\n", "submit.token.old": "12345678901234567890 tomorrow\n", "read.token": "",
		} {
			path := filepath.Join(dir, name)
			was, _ := os.ReadFile(path)
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			require.ErrorIs(t, tokens.Reload(), exit.ErrConfig)

			logs.TakeAll()
			for range 3 {
				<-time.After(FollowTokens)
				require.True(t, accepts(tokens, api.AdminAccess, admin))
			}
			require.Equal(t, 1, logs.Len(), name)
			require.Contains(t, logs.All()[0].ContextMap()["error"], path)

			if was == nil {
				require.NoError(t, os.Remove(path))
			} else {
				require.NoError(t, os.WriteFile(path, was, 0o600))
			}
			require.NoError(t, tokens.Reload())
		}

		require.NoError(t, os.Remove(filepath.Join(dir, "submit.token")))
		<-time.After(FollowTokens)
		require.False(t, accepts(tokens, api.SubmitAccess, submit))
		require.True(t, accepts(tokens, api.AdminAccess, admin))
	})
}

// A home of before has no read-only token; rotation makes one.
func TestRotationMakesATokenThatIsMissing(t *testing.T) {
	dir := newHome(t)
	require.NoError(t, os.Remove(filepath.Join(dir, "read.token")))
	_, expires, err := RotateToken(dir, api.ReadAccess, time.Hour)
	require.NoError(t, err)
	require.True(t, expires.IsZero())
	require.NotEmpty(t, secretOf(t, dir, api.ReadAccess))

	_, _, err = RotateToken(t.TempDir(), api.ReadAccess, time.Hour)
	require.ErrorIs(t, err, exit.ErrConfig)
}
