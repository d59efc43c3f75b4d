package node

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/backup"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

// I1, for a lone validator whose home is lost: it goes on from a backup that was made under load,
// and has every transaction that was acknowledged before the backup began, once. Nobody else has
// its blocks. A flipped bit of what was copied of CometBFT is found.
func TestALoneValidatorGoesOnFromABackupUnderLoad(t *testing.T) {
	r := newCometRig(t, plan.Default, 1, false)
	r.progress(5)
	token, err := os.ReadFile(filepath.Join(r.home, api.TokenFileName))
	require.NoError(t, err)
	ctx, cancel := r.bounded()
	defer cancel()

	r.load.mu.Lock()
	acked := slices.Clone(r.load.acked)
	r.load.mu.Unlock()
	before := r.now()
	dest, keys := filepath.Join(r.dir, "backup"), filepath.Join(r.dir, "keys")
	w, err := backup.NewWriter(dest, backup.Options{Program: "test", Token: token, Prove: offline.Rehearse})
	require.NoError(t, err)
	defer w.Abandon()
	require.NoError(t, r.cl.Backup(ctx, w.Take))
	after := r.progress(3)
	info, err := w.Finish(ctx)
	require.NoError(t, err)
	require.Len(t, after.comets, 1, "CometBFT goes on")
	require.GreaterOrEqual(t, info.Height, uint64(before.height))
	require.GreaterOrEqual(t, info.Consensus.Height, info.Height)
	require.Less(t, info.Consensus.Height, uint64(after.height))
	require.NoError(t, comethome.SaveKeys(comethome.Dir(r.home), keys))

	r.crash()
	r.load.cut()
	require.NoError(t, os.RemoveAll(r.home))

	blocks := filepath.Join(dest, backup.ConsensusName, comethome.PairsFile("blockstore"))
	data, err := os.ReadFile(blocks)
	require.NoError(t, err)
	data[len(data)/2] ^= 4
	require.NoError(t, os.WriteFile(blocks, data, 0o600))
	o := offline.RestoreOptions{Consensus: comethome.RestoreOptions{Keys: keys, AbandonLater: true}}
	_, err = offline.RestoreWith(ctx, dest, r.home, o)
	require.Equal(t, exit.Damage, exit.Code(err), "%v", err)
	require.ErrorContains(t, err, "blockstore.pairs was changed")
	require.NoDirExists(t, r.home)
	data[len(data)/2] ^= 4
	require.NoError(t, os.WriteFile(blocks, data, 0o600))

	_, err = offline.RestoreWith(ctx, dest, r.home, o)
	require.NoError(t, err)
	r.start()
	r.load = &cometLoad{cl: r.cl, quit: make(chan struct{}), acked: acked}
	r.load.ctx, r.load.stop = context.WithCancel(context.Background())
	_, _, err = r.cl.GetConsistent(ctx, []byte("a read that is ordered in a new block"))
	require.NoError(t, err)
	require.NotEmpty(t, acked)
	r.finish()
}
