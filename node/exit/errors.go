package exit

import (
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/ordering"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/inflight"
	"github.com/coppice-go/coppice/supervisor"
)

var (
	// ErrConfig: a configuration, a genesis or a home can not be used as it is.
	ErrConfig = errors.New("configuration")

	// ErrHomeInUse: another process has the home.
	ErrHomeInUse = errors.New("home is in use")

	// ErrDamage: the log or the state is not what was written, or the two do not belong together.
	ErrDamage = errors.New("damage found")

	// ErrGaveUp: the tree's root gave up, or was killed, or a decided transaction is known to end
	// the process.
	ErrGaveUp = errors.New("gave up")
)

// Exit codes of the process, on which scripts rely.
const (
	Done      = 0
	Failed    = 1
	Usage     = 2
	Config    = 3
	HomeInUse = 4
	Damage    = 5
	GaveUp    = 6
	Halted    = 7 // by a sink
)

// Code is the exit code that tells what err is.
func Code(err error) int {
	switch {
	case err == nil:
		return Done

	case errors.Is(err, ErrConfig):
		return Config

	case errors.Is(err, ErrHomeInUse):
		return HomeInUse

	case errors.Is(err, ErrDamage):
		return Damage

	case errors.Is(err, ErrGaveUp):
		return GaveUp

	default:
		return Failed
	}
}

// Classify adds to an error of the tree or of a file what it means for the process.
func Classify(err error) error {
	var corrupt *eventlog.CorruptError
	switch {
	case err == nil, errors.Is(err, ErrDamage), errors.Is(err, ErrConfig), errors.Is(err, ErrHomeInUse):
		return err

	case errors.As(err, &corrupt), errors.Is(err, eventlog.ErrTruncated), errors.Is(err, ordering.ErrBehind),
		errors.Is(err, storage.ErrDamaged), errors.Is(err, storage.ErrAppHash), errors.Is(err, storage.ErrChain),
		errors.Is(err, storage.ErrOtherLog), errors.Is(err, snapshots.ErrDamaged),
		errors.Is(err, inflight.ErrDeaths), cometDamage(err):
		return fmt.Errorf("%w: %w", ErrDamage, err)

	case errors.Is(err, eventlog.ErrLocked), errors.Is(err, storage.ErrInUse):
		return fmt.Errorf("%w: %w", ErrHomeInUse, err)

	case cometConfigError(err), errors.Is(err, ordering.ErrGenesis), errors.Is(err, eventlog.ErrVersion),
		errors.Is(err, storage.ErrFormat):
		return fmt.Errorf("%w: %w", ErrConfig, err)

	case errors.Is(err, supervisor.ErrMaxIntensity), errors.Is(err, supervisor.ErrOrphan),
		errors.Is(err, supervisor.ErrKilled), errors.Is(err, mempool.ErrDeadly), cometFinal(err):
		return fmt.Errorf("%w: %w", ErrGaveUp, err)
	}

	return err
}

// NoHome returns the error of a directory that is no home, because a file of a home is missing.
func NoHome(home, missing string) error {
	return fmt.Errorf("%w: %s is no home of coppice (%s is missing): make one with 'coppice init'", ErrConfig,
		home, missing)
}
