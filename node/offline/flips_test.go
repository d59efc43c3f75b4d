package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
)

// specimen is a home with a history. Its flipped copies must be refused, or lead to the same state.
type specimen struct {
	name   string
	home   string
	comet  bool
	values map[string]string // of every key that was ever written
	hash   string            // the app hash at the end
}

// running is a node in this process.
type running struct {
	*client.Client
	stop func() error
}

// run starts the node of a home, and returns when it is ready. An error of the start is returned.
func run(t *testing.T, dir string) (r running, err error) {
	t.Helper()
	c, err := config.Load(dir)
	if err != nil {
		return r, err
	}
	n, err := node.New(dir, c)
	if err != nil {
		return r, err
	}

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	dead, died := context.WithTimeout(context.Background(), time.Minute)
	go func() {
		ended <- n.Run(ctx)
		died()
	}()

	r.stop = func() error {
		stop()
		return <-ended
	}
	addr, err := n.Addr(dead)
	if err != nil {
		return r, fmt.Errorf("the node does not listen: %w; %w", err, r.stop())
	}

	token, err := os.ReadFile(filepath.Join(dir, api.TokenFileName))
	if err != nil {
		return r, errors.Join(err, r.stop())
	}

	r.Client = client.New(addr, client.WithToken(strings.TrimSpace(string(token))))
	t.Cleanup(r.CloseIdle)
	if _, err := r.WaitReady(dead); err != nil {
		return r, fmt.Errorf("the node is not ready: %w; %w", err, r.stop())
	}

	return r, nil
}

// put writes keys, one transaction each, and notes them.
func (s *specimen) put(t *testing.T, r running, values ...string) {
	t.Helper()
	for i := 0; i < len(values); i += 2 {
		body, err := kv.Encode(kv.Put([]byte(values[i]), []byte(values[i+1])))
		require.NoError(t, err)
		_, err = r.SubmitWait(t.Context(), chain.NewTx("kv", body, time.Minute))
		require.NoError(t, err)
		s.values[values[i]] = values[i+1]
	}
}

// check returns an error if the node has other values or another app hash than the specimen.
func (s *specimen) check(ctx context.Context, r running) error {
	for key, want := range s.values {
		have, found, err := r.Get(ctx, []byte(key))
		if err != nil || !found || string(have) != want {
			return fmt.Errorf("key %s: %.40q, found %t, %w", key, have, found, err)
		}
	}

	status, err := r.Status(ctx)
	if err == nil && fmt.Sprintf("%x", status.AppHash) != s.hash {
		err = fmt.Errorf("app hash %x, want %s", status.AppHash, s.hash)
	}
	return err
}

// makeSpecimen makes a home and runs its node several times; each run writes.
func makeSpecimen(t *testing.T, name string, o home.InitOptions, runs ...func(s *specimen, r running)) *specimen {
	t.Helper()
	dir, err := os.MkdirTemp("", "flips-") // t.TempDir is too long for a socket's path
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &specimen{name: name, home: filepath.Join(dir, "home"), values: make(map[string]string)}
	o.ChainID, o.Listen, o.Profile = "flips", "127.0.0.1:0", plan.Default
	_, err = home.Init(s.home, o)
	require.NoError(t, err)

	for _, do := range runs {
		r, err := run(t, s.home)
		require.NoError(t, err)
		do(s, r)
		status, err := r.Status(t.Context())
		require.NoError(t, err)
		s.hash = fmt.Sprintf("%x", status.AppHash)
		require.NoError(t, r.stop())
	}

	return s
}

// specimens makes the homes: one whose keys were written many times, one with snapshots whose log
// no longer has its first records, and one with CometBFT.
func specimens(t *testing.T) []*specimen {
	t.Helper()
	updated := makeSpecimen(t, "updated keys", home.InitOptions{}, slices.Repeat([]func(*specimen, running){
		func(s *specimen, r running) {
			for i := range 60 {
				s.put(t, r, "key"+strconv.Itoa(i%7), strings.Repeat(strconv.Itoa(i), 100+i), "count", strconv.Itoa(i))
			}
		}}, 3)...)

	large := func(s *specimen, r running) {
		for i := range 3 {
			s.put(t, r, "large"+strconv.Itoa(i), strings.Repeat(string(rune('a'+len(s.values)%26)), 400_000))
		}
		s.put(t, r, "small", strconv.Itoa(len(s.hash)))
	}
	snapshot := func(s *specimen, r running) {
		large(s, r)
		_, _, err := r.CreateSnapshot(t.Context())
		require.NoError(t, err)
	}
	snapped := makeSpecimen(t, "snapshots", home.InitOptions{Set: []config.Assignment{
		{Key: "log.segment_bytes", Value: strconv.Itoa(1 << 20), Flag: "--set"},
		{Key: "log.retain", Value: "snapshot", Flag: "--set"},
	}}, snapshot, snapshot, snapshot, large)

	withComet := makeSpecimen(t, "CometBFT", home.InitOptions{
		Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name, Flag: "--consensus"}},
		Consensus: comet.InitOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"},
	}, slices.Repeat([]func(*specimen, running){func(s *specimen, r running) {
		for i := range 10 {
			s.put(t, r, "key"+strconv.Itoa(i%3), strconv.Itoa(i))
		}
	}}, 2)...)
	withComet.comet = true

	return []*specimen{updated, snapped, withComet}
}

// fate is what becomes of a home with a flipped bit.
type fate string

const (
	refused     fate = "refused by verify"
	notBackedUp fate = "refused by backup"
	same        fate = "restored and started, with the same state"
	lie         fate = "passed, and failed"
)

// TestBitFlips flips single bits of small homes. Every file is chosen as often as any other. A home
// that passes verify starts with the same state, and if its backup passes as well, what is restored
// from it does. COPPICE_FLIPS and COPPICE_FLIPS_SEED say how many flips, and which.
func TestBitFlips(t *testing.T) {
	flips, seed := 30, uint64(1)
	for name, into := range map[string]func(uint64){
		"COPPICE_FLIPS": func(n uint64) { flips = int(n) }, "COPPICE_FLIPS_SEED": func(n uint64) { seed = n },
	} {
		if v := os.Getenv(name); v != "" {
			n, err := strconv.ParseUint(v, 10, 32)
			require.NoError(t, err, name)
			into(n)
		}
	}

	homes := specimens(t)
	rng := rand.New(rand.NewPCG(seed, seed))
	counts := make(map[string]map[fate]int)
	began := time.Now()

	for _, s := range homes {
		counts[s.name] = make(map[fate]int)
		_, err := Verify(t.Context(), s.home, VerifyOptions{})
		require.NoError(t, err, "%s, with no bit flipped", s.name)
	}

	for i := range flips {
		s := homes[rng.IntN(len(homes))]
		files := s.files(t)
		f := files[rng.IntN(len(files))]
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		at := rng.IntN(8 * len(data))

		flipped := slices.Clone(data)
		flipped[at/8] ^= 1 << (at % 8)
		write(t, f, flipped)
		what, err := s.fate(t)
		write(t, f, data)

		counts[s.name][what]++
		name, _ := filepath.Rel(s.home, f)
		if what == lie {
			t.Errorf("flip %d: %s, %s, bit %d of byte %d (%.20q): %v", i, s.name, name, at%8, at/8,
				data[max(0, at/8-10):], err)
		}
		if os.Getenv("COPPICE_FLIPS_LIST") != "" {
			t.Logf("flip %d: %s, %s, bit %d of byte %d of %d: %s: %v", i, s.name, name, at%8, at/8, len(data),
				what, err)
		}
	}

	for name, c := range counts {
		t.Logf("%-12s %v", name, c)
	}

	t.Logf("%d flips, seed %d, in %v", flips, seed, time.Since(began).Round(time.Second))
}

// files returns the files of the home that have a bit to flip.
func (s *specimen) files(t *testing.T) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(s.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if info, err := d.Info(); err != nil || info.Size() == 0 {
			return err
		}
		files = append(files, path)
		return nil
	}))
	return files
}

// write replaces the content of a file in place.
func write(t *testing.T, path string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.Write(data)
	require.NoError(t, errors.Join(err, f.Close()))
}

// fate tries what an operator does with a home: verify, start, backup, restore, and start again. An
// error explains the fate.
func (s *specimen) fate(t *testing.T) (fate, error) {
	t.Helper()
	if _, err := Verify(t.Context(), s.home, VerifyOptions{}); err != nil {
		if code := exit.Code(err); code != exit.Damage && code != exit.Config {
			return lie, fmt.Errorf("verify exits %d: %w", code, err)
		}
		return refused, err
	}

	dir, err := os.MkdirTemp("", "flipped-")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	used := filepath.Join(dir, "used") // a start and a backup change a home
	require.NoError(t, copyTree(s.home, used))

	dest, restored := filepath.Join(dir, "backup"), filepath.Join(dir, "restored")
	if _, err := Backup(t.Context(), used, dest, backup.Options{Program: "test"}); err != nil {
		if code := exit.Code(err); code != exit.Damage && code != exit.Config {
			return lie, fmt.Errorf("backup exits %d: %w", code, err)
		}
		return notBackedUp, err
	}

	var o RestoreOptions
	if s.comet {
		keys := filepath.Join(dir, "keys")
		if err := comethome.SaveKeys(comethome.Dir(used), keys); err != nil {
			return lie, fmt.Errorf("keys: %w", err)
		}
		o.Consensus = comethome.RestoreOptions{Keys: keys, AbandonLater: true}
	}
	if _, err := RestoreWith(t.Context(), dest, restored, o); err != nil {
		return lie, fmt.Errorf("restore: %w", err)
	}
	if s.comet {
		used = restored // one start takes long enough
	} else if err := s.starts(t, restored); err != nil {
		return lie, fmt.Errorf("start of what was restored: %w", err)
	}

	if err := s.starts(t, used); err != nil {
		return lie, fmt.Errorf("start: %w", err)
	}
	return same, nil
}

// starts starts a node and compares its state.
func (s *specimen) starts(t *testing.T, dir string) error {
	t.Helper()
	r, err := run(t, dir)
	if err != nil {
		return err
	}
	return errors.Join(s.check(t.Context(), r), r.stop())
}

// copyTree copies a directory.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dest := filepath.Join(to, rel)

		switch {
		case d.IsDir():
			return os.MkdirAll(dest, 0o700)
		case !d.Type().IsRegular():
			return nil
		}

		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(dest, data, 0o600)
	})
}
