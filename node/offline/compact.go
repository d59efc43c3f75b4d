package offline

import (
	"context"
	"errors"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// CompactOptions name the functions that Compact calls.
type CompactOptions struct {
	Progress func(step string, done, total uint64)
	Fatal    func(error) // see PruneOptions.Fatal
}

// Compact rewrites the tables of the state, and the databases of the consensus, of a stopped home
// without what was removed from them. It changes nothing that can be read. It checks the home
// first, and changes nothing of a damaged one. It may be interrupted at any instant. Errors are
// exit.ErrDamage, exit.ErrConfig and exit.ErrHomeInUse.
func Compact(ctx context.Context, dir string, o CompactOptions) ([]consensus.Size, error) {
	if o.Progress == nil {
		o.Progress = func(string, uint64, uint64) {}
	}

	h, err := Open(dir, nil, nil)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	h.fatal = o.Fatal

	sizes, err := h.compact(ctx, o.Progress)
	return sizes, exit.Classify(err)
}

// compact compacts the state and the databases of the consensus (see Compact).
func (h *StoppedHome) compact(ctx context.Context, progress func(step string, done, total uint64)) ([]consensus.Size,
	error) {
	if _, err := h.checkWhole(ctx, progress); err != nil {
		return nil, err
	}

	var part Part
	dir := home.StateDir(h.home)
	if err := h.measure(&part, "state", dir); err != nil {
		return nil, err
	}
	progress("compact state", 0, 0)
	if err := h.compactState(ctx, dir); err != nil {
		return nil, err
	}
	if err := h.measureAfter(&part, dir); err != nil {
		return nil, err
	}

	c, err := config.Load(h.home)
	if err != nil {
		return part.Sizes, err
	}
	k, _ := consensus.Lookup(c.Consensus.Kind)
	kind, ok := k.(consensus.Maintainer)
	if !ok {
		return part.Sizes, nil
	}
	g, err := home.ReadGenesis(h.home)
	if err != nil {
		return part.Sizes, err
	}

	theirs, err := kind.Compact(ctx, c.ConsensusHome(h.home, g), progress)
	return append(part.Sizes, theirs...), err
}

// compactState compacts the state, if there is one.
func (h *StoppedHome) compactState(ctx context.Context, dir string) error {
	if _, err := h.disk.Stat(dir); notExist(err) {
		return nil
	}
	db, err := storage.Open(dir, storage.Options{FS: h.disk, OnFatal: h.fatal})
	if err != nil {
		return err
	}
	return errors.Join(db.Compact(ctx), db.Close())
}
