package dump

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// read returns the files of an archive.
func read(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	require.NoError(t, err)
	files := map[string]string{}

	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		require.NoError(t, err)
		require.EqualValues(t, 0o600, h.Mode)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		files[h.Name] = string(data)
	}
}

func gives(name, text string, err error) Part {
	return Part{name, func(context.Context) ([]byte, error) { return []byte(text), err }}
}

func TestTheManifestSaysWhatThereIs(t *testing.T) {
	var out bytes.Buffer
	m, err := Write(t.Context(), &out, []Part{
		gives("whole", "four", nil),
		gives("cut", "some", errors.Join(ErrCut)),
		gives("beginning", "some", LeftOut("nothing like it")),
		gives("missing", "partial", errors.New("the node\nis down, says postgres://u:HIDDEN@h")),
	}, Options{Name: "d", About: "test", Now: time.Unix(1e9, 0), Each: time.Minute})
	require.NoError(t, err)

	require.Equal(t, Manifest{
		{Name: "whole", Bytes: 4},
		{Name: "cut", Bytes: 4, Cut: "cut"},
		{Name: "beginning", LeftOut: "nothing like it"},
		{Name: "missing", Missing: "the node is down, says postgres://[redacted]@h"},
	}, m)
	require.Equal(t, []string{"missing"}, m.Missing())

	require.Equal(t, map[string]string{
		"d/whole": "four", "d/cut": "some",
		"d/MANIFEST": "test, at 2001-09-09T01:46:40Z\n4 parts, of which 1 are missing. Tokens, keys, passwords and " +
			"the bodies of transactions are left out.\n\n" +
			"whole\t4 bytes\ncut\t4 bytes, cut: cut\nbeginning\tleft out: nothing like it\n" +
			"missing\tmissing: the node is down, says postgres://[redacted]@h\n",
	}, read(t, out.Bytes()))
}

func TestAPartThatDoesNotComeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		m, err := Write(t.Context(), io.Discard, []Part{
			{"never", func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }},
			gives("next", "x", nil),
		}, Options{Each: 5 * time.Second})
		require.NoError(t, err)
		require.Equal(t, 5*time.Second, time.Since(began))
		require.Contains(t, m[0].Missing, "no answer within 5s")
		require.Equal(t, 1, m[1].Bytes)
	})
}

func TestAnInterruptEndsTheArchive(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	asked := 0
	_, err := Write(ctx, io.Discard, []Part{
		{"a", func(context.Context) ([]byte, error) { asked++; cancel(why); return []byte("x"), nil }},
		{"b", func(context.Context) ([]byte, error) { asked++; return nil, nil }},
	}, Options{Each: time.Minute})
	require.ErrorIs(t, err, why)
	require.Equal(t, 1, asked)
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestALostArchiveIsAnError(t *testing.T) {
	_, err := Write(t.Context(), full{}, []Part{gives("a", "x", nil)}, Options{Each: time.Minute})
	require.ErrorContains(t, err, "disk full")
}

// write writes a file of a home.
func write(t *testing.T, home, name, text string) {
	t.Helper()
	path := filepath.Join(home, filepath.FromSlash(name))
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// An archive of a home with secrets in all places where a home may have some has none of them, also
// if they stand in other files, as they are or as JSON spells them.
func TestAnArchiveOfAHomeHasNoSecrets(t *testing.T) {
	home := t.TempDir()
	secrets := []string{"ADMINTOKEN<with>quote\"s-0001", "OLDTOKEN with a space-0002", "U1VCTUlUVE9LRU4tMDAwMw==",
		"VALIDATORKEY+/0004==", "NODEKEY+/0005==", "ROTATEDKEY+/0006==", "PEMLINE/0007+AAAA", "POSTGRES0008",
		"EXTRA-0009-FILE", "KAFKA-0010"}
	other := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.WriteFile(other, []byte(secrets[8]+"\n"), 0o600))

	write(t, home, "admin.token", secrets[0]+"\n")
	write(t, home, "submit.token.old", secrets[1]+" 2026-11-29T04:00:00Z\n")
	write(t, home, "read.token", secrets[2])
	write(t, home, "comet/config/priv_validator_key.json",
		`{"address":"AB","pub_key":{"type":"tendermint/PubKeyEd25519","value":"PUBLICKEY12345"},`+
			`"priv_key":{"type":"tendermint/PrivKeyEd25519","value":"`+secrets[3]+`"}}`)
	write(t, home, "comet/config/node_key.json",
		`{"priv_key":{"type":"tendermint/PrivKeyEd25519","value":"`+secrets[4]+`"}}`)
	write(t, home, "comet/config/node_key.json.0123", `{"priv_key":{"value":"`+secrets[5]+`"}}`)
	write(t, home, "key.pem", "-----BEGIN PRIVATE KEY-----\n"+secrets[6]+"\n-----END PRIVATE KEY-----\n")
	write(t, home, "comet/config/config.toml", `psql-conn = "postgresql://me:`+secrets[7]+`@db/x"`+"\n")
	write(t, home, "coppice.toml", "[streams]\npassword = \""+secrets[9]+"\"\n# "+strings.Join(secrets[:7], "\n# ")+
		"\n# "+secrets[8]+" PUBLICKEY12345\n")

	known := Secrets(home, other)
	inJSON := `{"a":"` + strings.ReplaceAll(secrets[0], `"`, `\"`) + `","b":"ADMINTOKEN\u003cwith\u003equote\"s-0001"}`

	var out bytes.Buffer
	m, err := Write(t.Context(), &out, append(Home(home), gives("events.json", inJSON, nil),
		gives("other", "", errors.New("refused: "+secrets[0]))),
		Options{Name: "d", Each: time.Minute, Secrets: known})
	require.NoError(t, err)

	files := read(t, out.Bytes())
	require.Contains(t, files, "d/home/coppice.toml")
	require.Contains(t, files, "d/home/comet/config/config.toml")
	require.Contains(t, files["d/home/coppice.toml"], "PUBLICKEY12345", "what is public stays")
	require.Contains(t, files["d/home/FILES"], "comet/config/priv_validator_key.json")
	require.NotContains(t, files["d/events.json"], "0001")
	require.Equal(t, []string{"other"}, m.Missing())

	for name, text := range files {
		for _, s := range secrets {
			require.NotContains(t, text, s, name)
		}
		require.NotRegexp(t, `(token|key)[^/]*$`, strings.TrimPrefix(name, "d/"), "no file of a secret is in it")
	}
}

func TestALinkIsNotFollowed(t *testing.T) {
	home := t.TempDir()
	write(t, home, "outside", "text of another file")
	require.NoError(t, os.Symlink("outside", filepath.Join(home, "node.json")))

	m, err := Write(t.Context(), io.Discard, Home(home), Options{Each: time.Minute})
	require.NoError(t, err)
	require.Equal(t, []string{"home/node.json"}, m.Missing())
}

func TestTheTailOfAFileBeginsWithALine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(name, []byte("one\ntwo\n"), 0o600))
	data, err := Tail(name)
	require.NoError(t, err)
	require.Equal(t, "one\ntwo\n", string(data))

	long := "first\n" + strings.Repeat("0123456789\n", tailSize/11+10)
	require.NoError(t, os.WriteFile(name, []byte(long), 0o600))
	data, err = Tail(name)
	require.ErrorIs(t, err, ErrCut)
	require.LessOrEqual(t, len(data), tailSize)
	require.True(t, strings.HasPrefix(string(data), "0123456789\n"))
	require.True(t, strings.HasSuffix(long, string(data)))

	_, err = Tail(t.TempDir())
	require.ErrorContains(t, err, "no regular file")
}

func TestRecordsHaveNoBodies(t *testing.T) {
	var r Records
	require.NoError(t, r.Add(7, "h", "TxLaunched", &logv1.TxLaunched{Tx: []byte("BODY"), ReceivedNs: 1}))
	require.NoError(t, r.Add(8, "h", "OrderDecided", &logv1.OrderDecided{ChainId: "c", Height: 3,
		Txs: [][]byte{[]byte("BODY")}, Request: []byte("BODY")}))
	require.NoError(t, r.Add(9, "h", "BlockCommitted", &logv1.BlockCommitted{ChainId: "c", Height: 3,
		AppHash: []byte{0xab}, Results: []*logv1.TxResult{{Code: 1, Data: []byte("BODY"), Log: "BODY"}, {}},
		Changes: []*logv1.Change{{Key: []byte("BODY"), Value: []byte("BODY")}}}))

	lines := strings.Split(strings.TrimSpace(string(r.Bytes())), "\n")
	require.Len(t, lines, 3)
	require.NotContains(t, string(r.Bytes()), "BODY")
	require.NotContains(t, string(r.Bytes()), "Qk9EW", "nor in base64")
	require.Contains(t, lines[0], chain.HashTx([]byte("BODY")).String())
	require.Contains(t, lines[1], `"height":3`)
	require.Contains(t, lines[2], `"app_hash":"ab"`)
	require.Contains(t, lines[2], `"txs":2,"failed":1,"changes":1`)
}
