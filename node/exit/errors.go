package exit

import (
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/ordering"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/internal/syserr"
	"github.com/coppice-go/coppice/node/inflight"
	"github.com/coppice-go/coppice/supervisor"
)

// The classes of errors that end the process, each with an exit code of its own.
var (
	// ErrConfig: a configuration, a genesis or a home cannot be used as it is.
	ErrConfig = errors.New("configuration")

	// ErrHomeInUse: another process uses the home, or makes what this one would make.
	ErrHomeInUse = errors.New("home is in use")

	// ErrDamage: the log or the state differs from what was written, or the two do not belong
	// together.
	ErrDamage = errors.New("damage found")

	// ErrGaveUp: the tree's root gave up or was killed, or it is known that executing a decided
	// transaction ends the process.
	ErrGaveUp = errors.New("gave up")

	// ErrHalted: a gate has stopped the node in order, because of a sink.
	ErrHalted = errors.New("halted")
)

// Exit codes of the process. Scripts rely on them.
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

// Code returns the exit code for err.
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

	case errors.Is(err, ErrHalted):
		return Halted

	default:
		return Failed
	}
}

// Classify returns err, wrapped in the class that it belongs to. It returns err unchanged if err
// has a class already, or belongs to none. err is an error of the tree or of a file.
func Classify(err error) error {
	var corrupt *eventlog.CorruptError
	switch {
	case err == nil, errors.Is(err, ErrDamage), errors.Is(err, ErrConfig), errors.Is(err, ErrHomeInUse),
		errors.Is(err, ErrHalted):
		return err

	case errors.As(err, &corrupt), errors.Is(err, eventlog.ErrTruncated), errors.Is(err, ordering.ErrBehind),
		errors.Is(err, storage.ErrDamaged), errors.Is(err, storage.ErrAppHash), errors.Is(err, storage.ErrChain),
		errors.Is(err, storage.ErrOtherLog), errors.Is(err, snapshots.ErrDamaged),
		errors.Is(err, chain.ErrReset), errors.Is(err, ordering.ErrEnded),
		errors.Is(err, inflight.ErrDeaths), consensus.Classify(err) == consensus.Damage:
		return fmt.Errorf("%w: %w", ErrDamage, err)

	case errors.Is(err, eventlog.ErrLocked), errors.Is(err, storage.ErrInUse):
		return fmt.Errorf("%w: %w", ErrHomeInUse, err)

	case consensus.Classify(err) == consensus.Config, errors.Is(err, ordering.ErrGenesis),
		errors.Is(err, eventlog.ErrVersion), errors.Is(err, storage.ErrFormat):
		return fmt.Errorf("%w: %w", ErrConfig, err)

	case errors.Is(err, supervisor.ErrMaxIntensity), errors.Is(err, supervisor.ErrOrphan),
		errors.Is(err, supervisor.ErrKilled), errors.Is(err, mempool.ErrDeadly),
		errors.Is(err, consensus.ErrFinal):
		return fmt.Errorf("%w: %w", ErrGaveUp, err)
	}

	return err
}

// Damaged returns err as ErrDamage, unless it is an error of the operating system, which says
// nothing about what the files hold.
func Damaged(err error) error {
	if syserr.Is(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamage, err)
}

// InUse returns an error of class ErrHomeInUse for a place that is not a home.
func InUse(format string, args ...any) error { return inUse(fmt.Sprintf(format, args...)) }

type inUse string

// Error implements error.
func (u inUse) Error() string { return string(u) }

// Is reports whether target is the class of u.
func (inUse) Is(target error) bool { return target == ErrHomeInUse }

// NoHome returns the error for a directory that is not a home. missing is the name of the file that
// it lacks.
func NoHome(home, missing string) error {
	return fmt.Errorf("%w: %s is no home of coppice (%s is missing): make one with 'coppice init'", ErrConfig,
		home, missing)
}
