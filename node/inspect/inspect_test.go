package inspect_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/inspect"
)

func TestAPartHasABoundOnItsBytes(t *testing.T) {
	i := inspect.New(inspect.Part{Name: "long", Make: func(_ context.Context, w io.Writer) error {
		for range inspect.MaxBytes/1000 + 2 {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 1000)); err != nil {
				return err
			}
		}
		return nil
	}})
	require.Equal(t, []string{"long"}, i.Names())

	r, err := i.Inspect(t.Context(), "long")
	require.NoError(t, err)
	require.Len(t, r.Data, inspect.MaxBytes)
	require.EqualValues(t, (inspect.MaxBytes/1000+2)*1000-inspect.MaxBytes, r.LeftOut)
}

func TestAPartHasABoundOnItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := inspect.New(inspect.Part{Name: "slow", Make: func(ctx context.Context, _ io.Writer) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		began := time.Now()
		_, err := i.Inspect(t.Context(), "slow")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "slow took more than 10s")
		require.Equal(t, inspect.MaxTime, time.Since(began))
	})
}

func TestPartsAreMadeOneAtATime(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	i := inspect.New(inspect.Part{Name: "one", Make: func(context.Context, io.Writer) error {
		close(entered)
		<-leave
		return nil
	}}, inspect.Part{Name: "other", Make: func(context.Context, io.Writer) error { return errors.New("broken") }})

	made := make(chan error, 1)
	go func() {
		_, err := i.Inspect(t.Context(), "one")
		made <- err
	}()
	<-entered

	_, err := i.Inspect(t.Context(), "other")
	require.ErrorIs(t, err, inspect.ErrBusy)
	close(leave)
	require.NoError(t, <-made)

	_, err = i.Inspect(t.Context(), "other")
	require.EqualError(t, err, "other: broken")
	_, err = i.Inspect(t.Context(), "third")
	require.ErrorIs(t, err, inspect.ErrNone)
	require.ErrorContains(t, err, `"third"`)
}

func TestThePartsOfAProcess(t *testing.T) {
	i := inspect.New(append(inspect.Process(time.Now()), inspect.Disk(t.TempDir()))...)

	for _, name := range i.Names() {
		r, err := i.Inspect(t.Context(), name)
		require.NoError(t, err, name)
		require.NotEmpty(t, r.Data, name)
		require.Zero(t, r.LeftOut, name)

		switch filepath.Ext(name) {
		case ".gz":
			zip, err := gzip.NewReader(bytes.NewReader(r.Data))
			require.NoError(t, err, name)
			_, err = io.Copy(io.Discard, zip)
			require.NoError(t, err, name)
		case ".json":
			require.True(t, json.Valid(r.Data), name)
		}
	}

	r, err := i.Inspect(t.Context(), "goroutines.txt")
	require.NoError(t, err)
	require.Contains(t, string(r.Data), "TestThePartsOfAProcess")
}

func TestTheDiskIsAddedUpByDirectory(t *testing.T) {
	home := t.TempDir()
	for name, size := range map[string]int{"a": 1, "data/log/1": 10, "data/log/deep/2": 20, "data/state/3": 5} {
		path := filepath.Join(home, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, make([]byte, size), 0o600))
	}

	r, err := inspect.New(inspect.Disk(home)).Inspect(t.Context(), "disk.json")
	require.NoError(t, err)

	var j struct {
		Size        uint64
		Directories map[string]struct{ Files, Bytes int }
	}
	require.NoError(t, json.Unmarshal(r.Data, &j))
	require.NotZero(t, j.Size)
	require.Equal(t, map[string]struct{ Files, Bytes int }{".": {1, 1}, "data/log": {2, 30}, "data/state": {1, 5}},
		j.Directories)
}

func TestSecretsAreTakenOut(t *testing.T) {
	pem := "-----BEGIN EC PRIVATE KEY-----\nHIDDEN\nHIDDEN\n-----END EC PRIVATE KEY-----"
	id := strings.Repeat("ab", 20)

	for in, want := range map[string]string{
		`psql-conn = "postgresql://me:HIDDEN@db/x"`:            `psql-conn = "postgresql://[redacted]@db/x"`,
		`https://HIDDEN@example.org/a`:                         `https://[redacted]@example.org/a`,
		`peers = "me:HIDDEN@h1:26656"`:                         `peers = "me:[redacted]@h1:26656"`,
		`host=db user=me password=HIDDEN sslmode=on`:           `host=db user=me password=[redacted] sslmode=on`,
		`password = 'HIDDEN HIDDEN'`:                           `password = '[redacted]'`,
		`kafka.sasl.password = "HI\"DDEN"`:                     `kafka.sasl.password = "[redacted]"`,
		`{"api_key": "HIDDEN", "name": "kept"}`:                `{"api_key": "[redacted]", "name": "kept"}`,
		`Authorization: Bearer HIDDENHIDDEN`:                   `Authorization: Bearer [redacted]`,
		`"priv_key": {"type": "x", "value": "HIDDEN"}, "a": 1`: `"priv_key": "[redacted]", "a": 1`,
		"a\n" + pem + "\nb":                                    "a\n[redacted]\nb",
		"a\n" + pem[:40]:                                       "a\n[redacted]",
		"a known-HIDDEN b":                                     "a [redacted] b",
	} {
		got := string(inspect.Redact([]byte(in), "known-HIDDEN", ""))
		require.Equal(t, want, got)
		require.NotContains(t, got, "HIDDEN")
	}

	for _, public := range []string{
		`tcp://` + id + `@10.0.0.7:26656`,
		`peers = "` + id + `@h1:26656,` + id + `@h2:26656"`,
		`priv_validator_key_file = "config/priv_validator_key.json"`,
		"the token is in the file admin.token: see admin.token",
		"/root/go/pkg/mod/github.com/a/b@v1.2.3/x.go:12 +0x1d8 m/v2@v3",
	} {
		require.Equal(t, public, string(inspect.Redact([]byte(public))))
	}
}

func TestValuesOfSecretSettingsAreTakenOut(t *testing.T) {
	require.Equal(t, inspect.Redacted, inspect.RedactValue("streams.kafka.password", "HIDDEN"))
	require.Equal(t, "", inspect.RedactValue("streams.kafka.password", ""))
	require.Equal(t, "postgres://[redacted]@h/d", inspect.RedactValue("streams.postgres.url", "postgres://u:p@h/d"))
	require.Equal(t, "key.pem", inspect.RedactValue("tls.key", "key.pem"))
	require.Equal(t, "127.0.0.1:7070", inspect.RedactValue("listen", "127.0.0.1:7070"))
}
