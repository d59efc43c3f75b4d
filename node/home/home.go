package home

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/internal/flock"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/plan"
)

// InitOptions describe the home to make.
type InitOptions struct {
	ChainID string // empty: a random one
	Profile plan.Profile
	Listen  string
	Set     []config.Assignment // of other keys

	// Consensus holds options of the configured kind of consensus, in that kind's own type; nil
	// means its defaults.
	Consensus any

	// Genesis is the genesis of the chain to join; nil makes a new one with ChainID.
	Genesis *chain.Genesis

	// GovernanceKey is the governance key of a new genesis.
	GovernanceKey []byte

	// Agents and AgentThreshold are those of a new genesis.
	Agents         []chain.Agent
	AgentThreshold uint64

	// ResetOffset, if not 0, allows resets in a new genesis: see chain.Resets.
	ResetOffset uint64

	// ResetMode is the mode of the resets of a new genesis; empty: chain.Regenesis. With
	// chain.Prune there is no offset.
	ResetMode string
}

// Init makes a home in a directory that has none. It overwrites nothing.
func Init(home string, o InitOptions) (g chain.Genesis, err error) {
	s, err := config.FromAssignments(
		append([]config.Assignment{{Key: "profile", Value: string(o.Profile), Flag: "--profile"},
			{Key: "listen", Value: o.Listen, Flag: "--listen"}}, o.Set...))
	if err != nil {
		return g, err
	}

	kind, _ := consensus.Lookup(s.Config.Consensus.Kind)
	own, homed := kind.(consensus.Homed)
	if !homed && o.Consensus != nil {
		return g, fmt.Errorf("%w: consensus %s has no options, but got a %T", exit.ErrConfig, kind.Name(),
			o.Consensus)
	}
	if g, err = o.genesis(own); err != nil {
		return g, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	if err := os.MkdirAll(home, 0o700); err != nil {
		return g, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	// A file system that cannot lock a directory does without.
	making, err := flock.TryLockToRead(home)
	if errors.Is(err, flock.ErrLocked) {
		return g, exit.InUse("another process is making the home %s", home)
	} else if err == nil {
		defer making.Close()
	}
	if _, err := os.Stat(filepath.Join(home, FormatFile)); err == nil {
		return g, fmt.Errorf("%w: %s is already a home", exit.ErrConfig, home)
	}

	if homed {
		if err := own.Init(s.Config.ConsensusHome(home, g), o.Consensus); err != nil {
			return g, fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
	}

	genesis, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return g, err
	}

	for _, f := range []struct {
		name string
		data []byte
		mode fs.FileMode
	}{
		{config.FileName, []byte(s.Config.Commented()), 0o644},
		{chain.GenesisFile, append(genesis, '\n'), 0o644},
		{api.TokenFileName, []byte(rand.Text() + "\n"), 0o600},
		{api.SubmitTokenFileName, []byte(rand.Text() + "\n"), 0o600},
		{api.ReadTokenFileName, []byte(rand.Text() + "\n"), 0o600},
		{FormatFile, []byte(Format), 0o644}, // last: this file makes the directory a home
	} {
		if err := durable.OS.WriteNew(filepath.Join(home, f.name), f.data, f.mode); err != nil {
			return g, fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
	}

	return g, durable.OS.SyncDir(home)
}

// genesis returns the genesis of a new home: o.Genesis if it is set, or the one that the options of
// the kind of consensus bring, or else a new one. own is nil if the kind has no files in the home.
func (o InitOptions) genesis(own consensus.Homed) (g chain.Genesis, err error) {
	var theirs *chain.Genesis
	if own != nil {
		if theirs, err = own.Genesis(o.ChainID, o.Consensus); err != nil {
			return g, err
		}
	}

	switch {
	case o.Genesis != nil:
		g = *o.Genesis
	case theirs != nil:
		g = *theirs
	default:
		if o.ChainID == "" {
			var b [4]byte
			rand.Read(b[:])
			o.ChainID = "coppice-" + hex.EncodeToString(b[:])
		}
		g = chain.NewGenesis(o.ChainID, time.Now())
		g.GovernanceKey, g.Agents, g.AgentThreshold = o.GovernanceKey, o.Agents, o.AgentThreshold
		if o.ResetOffset != 0 || o.ResetMode != "" {
			g.Resets = &chain.Resets{Mode: cmp.Or(o.ResetMode, chain.Regenesis), Offset: o.ResetOffset}
		}
	}

	_, err = g.ChainStarted()
	return g, err
}

// IsHome reports whether a directory is a home. If it cannot find out, it returns true.
func IsHome(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, FormatFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// Lock makes this process the only one that uses the home, until the returned file is closed or the
// process ends.
func Lock(home string) (*os.File, error) {
	f, err := flock.TryLock(filepath.Join(home, lockFile))
	return locked(home, f, err)
}

// LockToRead is like Lock, and also locks a home that this process cannot write, for example on a
// file system that is mounted read-only. If such a home has no lock file, as a copy of a home may,
// nothing is locked: no process can use the home from here.
func LockToRead(home string) (io.Closer, error) {
	path := filepath.Join(home, lockFile)
	f, err := flock.TryLock(path)

	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		if f, err = flock.TryLockToRead(path); errors.Is(err, fs.ErrNotExist) {
			return io.NopCloser(nil), nil
		}
	}
	return locked(home, f, err)
}

// locked returns f, the lock of a home, if no process uses the home. An error of the attempt to
// take the lock gets its class.
func locked(home string, f *os.File, err error) (*os.File, error) {
	if errors.Is(err, flock.ErrLocked) {
		user := "another process"
		if n, err := api.ReadNodeFile(home); err == nil && unix.Kill(n.PID, 0) != unix.ESRCH {
			// If no such process lives, the file is left from a node that was killed, and another
			// command uses the home.
			user = fmt.Sprintf("process %d", n.PID)
		}
		return nil, fmt.Errorf("%w: %s uses %s", exit.ErrHomeInUse, user, home)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	if err != nil {
		return nil, err
	}

	if err := logUnused(home); err != nil {
		return nil, errors.Join(err, f.Close())
	}

	return f, nil
}

// logUnused returns exit.ErrHomeInUse if a process has the home's log open, although it does not
// hold the home's lock: the file LOCK was removed under it. What comes next would change files that
// it uses.
func logUnused(home string) error {
	f, err := flock.TryLockExisting(filepath.Join(LogDir(home), lockFile))
	if err == nil {
		return f.Close()
	}
	if errors.Is(err, flock.ErrLocked) {
		return fmt.Errorf("%w: a process uses the log of %s, though it does not hold %s: was that file removed?",
			exit.ErrHomeInUse, home, filepath.Join(home, lockFile))
	}
	return nil // a home without a log, or one that cannot be opened: the code that opens the log reports it
}
