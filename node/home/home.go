package home

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
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

// The files of a home.
const (
	lockFile     = "LOCK"
	FormatFile   = "FORMAT"
	logDir       = "data/log"
	stateDir     = "data/state"
	inflightPath = "data/inflight"
)

// LogDir is where the event log of a home lies.
func LogDir(home string) string { return filepath.Join(home, filepath.FromSlash(logDir)) }

// StateDir is where the state of a home lies.
func StateDir(home string) string { return filepath.Join(home, filepath.FromSlash(stateDir)) }

// InflightDir is where the marks of running transactions of a home lie.
func InflightDir(home string) string { return filepath.Join(home, filepath.FromSlash(inflightPath)) }

// InitOptions say what kind of home to make.
type InitOptions struct {
	ChainID string // empty: a random one
	Profile plan.Profile
	Listen  string
	Set     []config.Assignment // of other keys

	// Consensus are options of the configured kind of consensus, of that kind's own type; nil is
	// its defaults.
	Consensus any

	// Genesis, if set, is the chain to be one of; nil is a new one of ChainID.
	Genesis *chain.Genesis

	// GovernanceKey is that of a new genesis.
	GovernanceKey []byte
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
		return g, fmt.Errorf("%w: consensus %s has no options, and a %T was given", exit.ErrConfig, kind.Name(),
			o.Consensus)
	}
	if g, err = o.genesis(own); err != nil {
		return g, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	if err := os.MkdirAll(home, 0o700); err != nil {
		return g, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	if _, err := os.Stat(filepath.Join(home, FormatFile)); err == nil {
		return g, fmt.Errorf("%w: %s is a home already", exit.ErrConfig, home)
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
		{submitTokenFile, []byte(rand.Text() + "\n"), 0o600},
		{FormatFile, []byte(Format), 0o644}, // last: it makes the rest a home
	} {
		if err := durable.OS.WriteNew(filepath.Join(home, f.name), f.data, f.mode); err != nil {
			return g, fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
	}

	return g, durable.OS.SyncDir(home)
}

// genesis returns the genesis of a new home: the one of Genesis, the one that the options of the
// kind of consensus bring, or a new one. own is nil if the kind has no files in the home.
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
		g.GovernanceKey = o.GovernanceKey
	}

	_, err = g.ChainStarted()
	return g, err
}

// IsHome tells whether a directory is a home, or may be one that cannot be looked into.
func IsHome(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, FormatFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// lockHome makes this process the home's only one, until the file is closed or the process ends.
func Lock(home string) (*os.File, error) {
	path := filepath.Join(home, lockFile)
	f, err := flock.TryLock(path)
	if errors.Is(err, flock.ErrLocked) {
		who := "another process"
		if n, err := api.ReadNodeFile(home); err == nil && unix.Kill(n.PID, 0) != unix.ESRCH {
			// of a node that was killed the file says nothing: then it is another command
			who = fmt.Sprintf("process %d", n.PID)
		}
		return nil, fmt.Errorf("%w: %s has %s", exit.ErrHomeInUse, who, home)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	return f, err
}

// readToken reads a token.
func ReadToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	token := string(trimNewline(data))
	if len(token) < 20 {
		return "", fmt.Errorf("%w: %s: %d characters, want at least 20", exit.ErrConfig, path, len(token))
	}

	return token, nil
}

func trimNewline(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
}
