package comet

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/syndtr/goleveldb/leveldb"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/rpcserver"
)

// save writes the files of a copy into a new directory, and closes the copy.
func save(t *testing.T, c consensus.Copy) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, c.Send(t.Context(), func(name string, piece []byte, _ bool) error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(piece)
		return errors.Join(err, f.Close())
	}))
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	return dir
}

// restored makes a home in the directory of a node from a copy, and returns its CometBFT home.
func restored(t *testing.T, from string, f consensus.Facts, o any) (home string, notes []string, err error) {
	t.Helper()
	dir := t.TempDir()
	err = Kind{}.Restore(t.Context(), consensus.Home{Dir: dir}, consensus.Restoring{From: from, Facts: f, Options: o,
		Note: func(text string) { notes = append(notes, text) }, Progress: func(uint64, uint64) {}})
	return comethome.Dir(dir), notes, err
}

// A copy of a running CometBFT has every block that was committed before, none of its keys, and not
// how far it has signed. What is restored from it goes on with the application as it was before the
// copy.
func TestACopyOfARunningCometBFTGoesOn(t *testing.T) {
	c, home := newFakeCore(), newHome(t, comethome.Options{})
	run := drive(t, home, c)
	c.submit("before=1")
	c.await(t, func() bool { return len(c.pool) == 0 })

	c.mu.Lock()
	was := c.state // of the application; blocks go on meanwhile
	c.mu.Unlock()
	copied, err := Driver{Home: home}.Copy(t.Context())
	require.NoError(t, err)
	c.submit("while=1")
	c.await(t, func() bool { return len(c.pool) == 0 && c.state.Height > was.Height+3 })
	facts := copied.Facts()
	require.GreaterOrEqual(t, facts.Height, was.Height)
	require.Equal(t, []string{"config.toml", "genesis.json", "evidence.pairs", "blockstore.pairs", "state.pairs"},
		facts.Files)
	from := save(t, copied)

	keys := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, comethome.SaveKeys(home, keys))
	require.NoError(t, run.Stop(t.Context()))
	for _, name := range []string{comethome.NodeKeyFile, comethome.ValidatorKeyFile} {
		info, err := os.Stat(filepath.Join(keys, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
	}
	requireNoSecret(t, home, from)
	require.NoFileExists(t, filepath.Join(keys, comethome.SigningStateFile))

	again, notes, err := restored(t, from, facts, comethome.RestoreOptions{Keys: keys, AbandonLater: true})
	require.NoError(t, err)
	require.Len(t, notes, 1)
	require.NoError(t, comethome.Verify(t.Context(), again, was))
	require.NoError(t, child.Verify(again))

	own := newFakeCore()
	own.state = was
	drive(t, again, own)
	own.submit("after=1")
	own.await(t, func() bool { return own.applied[chain.HashTx([]byte("after=1"))] })
	require.Greater(t, own.state.Height, facts.Height)
}

// A CometBFT that is killed while it is copied gives no copy, and a CometBFT that is being started
// again is waited for.
func TestACopyWaitsForCometBFTAndDiesWithIt(t *testing.T) {
	c, home := newFakeCore(), newHome(t, comethome.Options{})
	drive(t, home, c)
	for i := range 6 { // more than the buffers on the way hold
		c.submit(strings.Repeat(itoa(uint64(i)), 250_000))
		c.await(t, func() bool { return len(c.pool) == 0 })
	}

	copied, err := Driver{Home: home}.Copy(t.Context())
	require.NoError(t, err)
	defer copied.Close()
	require.NoError(t, syscall.Kill(pidOf(t, home), syscall.SIGKILL))
	err = copied.Send(t.Context(), func(string, []byte, bool) error { return nil })
	require.ErrorIs(t, err, ErrNoCopy)

	copied, err = Driver{Home: home}.Copy(t.Context())
	require.NoError(t, err)
	save(t, copied)
}

// requireNoSecret fails if a file of dir has a private key of a home, or its signing state.
func requireNoSecret(t *testing.T, home, dir string) {
	t.Helper()
	var secrets []string
	for _, name := range []string{"config/node_key.json", "config/priv_validator_key.json"} {
		data, err := os.ReadFile(filepath.Join(home, name))
		require.NoError(t, err)
		_, rest, ok := strings.Cut(string(data), `"priv_key"`)
		require.True(t, ok)
		_, rest, _ = strings.Cut(rest, `"value"`)
		secrets = append(secrets, strings.Split(rest, `"`)[1])
	}
	require.Len(t, secrets[1], 88, "a key in base64")
	secrets = append(secrets, "signbytes")

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		for _, s := range secrets {
			require.NotContains(t, string(data), s, e.Name())
		}
	}
}

// A restored validator never signs what it may have signed before, unless its operator says that
// those blocks are lost. Every way to say nothing, or something that cannot be, is refused.
func TestARestoredValidatorSignsNothingTwice(t *testing.T) {
	home, c := blocks(t, 3)
	height := int64(c.state.Height)
	stopped, err := Kind{}.CopyStopped(t.Context(), consensus.Home{Dir: filepath.Dir(home)})
	require.NoError(t, err)
	facts := stopped.Facts()
	require.GreaterOrEqual(t, int64(facts.Height), height)
	height = int64(facts.Height)
	from := save(t, stopped)

	keys, other := filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "other")
	require.NoError(t, comethome.SaveKeys(home, keys))
	require.NoError(t, comethome.SaveKeys(newHome(t, comethome.Options{}), other))

	// with returns a copy of keys with a signing state.
	with := func(edit func(map[string]any)) string {
		dir := filepath.Join(t.TempDir(), "keys")
		require.NoError(t, os.CopyFS(dir, os.DirFS(keys)))
		data, err := os.ReadFile(filepath.Join(home, "data", comethome.SigningStateFile))
		require.NoError(t, err)
		path := filepath.Join(dir, comethome.SigningStateFile)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		if edit != nil {
			editJSON(t, path, edit)
		}
		return dir
	}

	// cut returns a copy of keys in which a file is cut short.
	cut := func(name string) string {
		dir := with(nil)
		require.NoError(t, os.Truncate(filepath.Join(dir, name), 20))
		return dir
	}

	_, _, err = restored(t, from, facts, 7)
	require.ErrorContains(t, err, "a int, want a home.RestoreOptions")

	for _, k := range []struct {
		name   string
		o      any
		is     error  // of Restore, or of the verification after it
		says   string // in the error, or in the notes
		signed int64  // the height of the signing state
	}{
		{"no keys", nil, nil, "follows the chain and signs nothing", 0},
		{"keys alone", comethome.RestoreOptions{Keys: keys}, comethome.ErrHome, "could sign twice", 0},
		{"not below the blocks", comethome.RestoreOptions{Keys: keys, SignedUpTo: height - 1}, comethome.ErrHome,
			"--signed-up-to is " + itoa(uint64(height-1)) + ": want at least " + itoa(uint64(height)), 0},
		{"up to the last block", comethome.RestoreOptions{Keys: keys, SignedUpTo: height}, nil, "signs nothing up to",
			height},
		{"an only validator beyond it", comethome.RestoreOptions{Keys: keys, SignedUpTo: height + 1},
			comethome.ErrHome, "would never sign again", 0},
		{"an only validator without later blocks", comethome.RestoreOptions{Keys: keys, AbandonLater: true}, nil,
			"signs nothing up to", height},
		{"another key", comethome.RestoreOptions{Keys: other, AbandonLater: true}, comethome.ErrHome,
			"not the only one", 0},
		{"another key that waits", comethome.RestoreOptions{Keys: other, SignedUpTo: height + 9}, nil,
			"signs nothing up to", height + 9},
		{"its newest state", comethome.RestoreOptions{Keys: with(nil)}, nil, "signs nothing up to", -1},
		{"an old state", comethome.RestoreOptions{Keys: with(signingState(itoa(uint64(height-1)), 0, 3))},
			comethome.ErrSigningOld, "could sign twice", 0},
		{"a state that is none", comethome.RestoreOptions{Keys: with(func(d map[string]any) { delete(d, "height") })},
			comethome.ErrSigning, "no height", 0},
		{"a state and a height", comethome.RestoreOptions{Keys: with(nil), SignedUpTo: height}, comethome.ErrHome,
			"nothing else can say", 0},
		{"a key that is none", comethome.RestoreOptions{Keys: cut(comethome.ValidatorKeyFile)}, comethome.ErrHome,
			comethome.ValidatorKeyFile, 0},
		{"a node key that is none", comethome.RestoreOptions{Keys: cut(comethome.NodeKeyFile)}, comethome.ErrHome,
			comethome.NodeKeyFile, 0},
		{"no keys there", comethome.RestoreOptions{Keys: t.TempDir(), AbandonLater: true}, comethome.ErrHome,
			comethome.NodeKeyFile, 0},
	} {
		t.Run(k.name, func(t *testing.T) {
			again, notes, err := restored(t, from, facts, k.o)
			if err == nil {
				err = errors.Join(comethome.Verify(t.Context(), again, c.state), child.Verify(again))
			}
			if k.is != nil {
				require.ErrorIs(t, err, k.is)
				require.ErrorContains(t, err, k.says)
				require.NotContains(t, err.Error(), again, "a home that is not there any more")
				return
			}

			require.NoError(t, err)
			require.Contains(t, strings.Join(notes, "\n"), k.says)
			has, err := comethome.ReadKeys(again)
			require.NoError(t, err)
			if k.signed >= 0 {
				require.Equal(t, k.signed, has.Height)
			}
			was, err := comethome.ReadKeys(home)
			require.NoError(t, err)
			require.Equal(t, k.o != nil && !strings.HasPrefix(k.name, "another"),
				was.Validator.Address == has.Validator.Address)
		})
	}
}

// comets serves, on a socket of its own, what a CometBFT process would send.
func comets(t *testing.T, h http.HandlerFunc) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "copy") // t.TempDir is too long for a socket's path
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "rpc.sock")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return socket
}

// A CometBFT that ends while it is copied, or that cannot read its databases, gives no copy. The
// error says so, and names the file.
func TestACopyThatIsCutShortIsNone(t *testing.T) {
	home := newHome(t, comethome.Options{})
	databases := make(map[string]*leveldb.DB)
	for _, name := range []string{"blockstore", "state"} {
		db, err := leveldb.OpenFile(filepath.Join(t.TempDir(), name), nil)
		require.NoError(t, err)
		t.Cleanup(func() { db.Close() })
		databases[name] = db
		for i := range 40 {
			require.NoError(t, db.Put([]byte{byte(i)}, make([]byte, 100<<10), nil))
		}
	}

	dies := make(chan struct{})
	socket := comets(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, rpcserver.CopyPath, r.URL.Path)
		f, err := comethome.Freeze(r.Context(), databases)
		if err != nil {
			panic(err)
		}
		defer f.Release()

		f.WriteStream(r.Context(), &mortal{w, dies})
		panic(http.ErrAbortHandler)
	})
	c, err := copyOf(t.Context(), home, socket, time.Minute)
	require.NoError(t, err)
	defer c.Close()

	sent := 0
	err = c.Send(t.Context(), func(name string, _ []byte, last bool) error {
		if sent++; name == "blockstore.pairs" && sent == 5 {
			close(dies)
		}
		require.False(t, last && name == "state.pairs")
		return nil
	})
	require.ErrorIs(t, err, ErrNoCopy)
	require.ErrorContains(t, err, ".pairs: ")
	require.ErrorContains(t, err, "cut short")

	refuses := comets(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the database state is not open", http.StatusInternalServerError)
	})
	_, err = copyOf(t.Context(), home, refuses, time.Minute)
	require.ErrorIs(t, err, ErrNoCopy)
	require.ErrorContains(t, err, "the database state is not open")

	_, err = copyOf(t.Context(), home, filepath.Join(t.TempDir(), "none.sock"), time.Millisecond)
	require.ErrorIs(t, err, ErrNoCopy)
	require.ErrorContains(t, err, "does not answer")
	ended, end := context.WithCancel(t.Context())
	end()
	_, err = copyOf(ended, home, filepath.Join(t.TempDir(), "none.sock"), time.Minute)
	require.ErrorIs(t, err, context.Canceled)
}

// mortal is the answer of a process that writes nothing more once it has died.
type mortal struct {
	http.ResponseWriter
	dies <-chan struct{}
}

func (m *mortal) Write(b []byte) (int, error) {
	select {
	case <-m.dies:
		return 0, errors.New("dead")
	default:
		return m.ResponseWriter.Write(b)
	}
}

// While a copy is made, CometBFT is told to keep all of its blocks.
func TestBlocksAreKeptWhileACopyIsMade(t *testing.T) {
	d := Driver{keep: new(blockKeep)}
	a := &app{retain: 10, keep: d.keep}
	s := chain.State{Height: 100, InitialHeight: 1}
	require.EqualValues(t, 90, a.retainHeight(s))

	one, two := d.Keep(), d.Keep()
	require.Zero(t, a.retainHeight(s))
	one()
	one()
	require.Zero(t, a.retainHeight(s), "another holds them")
	two()
	require.EqualValues(t, 90, a.retainHeight(s))
	Driver{}.Keep()()
}
