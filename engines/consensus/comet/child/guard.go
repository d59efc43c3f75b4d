package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	dbm "github.com/cometbft/cometbft-db"
	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/privval"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// guard checks a home against its own databases before CometBFT runs on them.
type guard struct {
	config *cfg.Config
	own    crypto.PubKey // nil: a remote signer has the key
	now    time.Time

	blocks dbm.DB
}

// open is a cfg.DBProvider. CometBFT opens the blocks and then the states, before it reads either.
func (g *guard) open(ctx *cfg.DBContext) (dbm.DB, error) {
	db, err := openDatabase(ctx)
	if err != nil {
		return nil, err
	}

	switch ctx.ID {
	case "blockstore":
		g.blocks = db
	case "state":
		err := g.check(db)
		if err == nil {
			err = mend(store.NewBlockStore(g.blocks), db)
		}
		if err != nil {
			return nil, errors.Join(err, db.Close(), g.blocks.Close())
		}
	}

	return db, nil
}

// Verify makes the checks of a start in the home of a node that does not run, and changes nothing.
// comethome.Verify must have passed.
func Verify(home string) error {
	c, err := comethome.LoadConfig(home)
	if err != nil {
		return err
	}
	return verify(c)
}

// VerifySigningState does the same with the signing state at path instead of the home's. path is
// absolute. It is for a file that is to become the home's, so that an error names this file.
func VerifySigningState(home, path string) error {
	c, err := comethome.LoadConfig(home)
	if err != nil {
		return err
	}
	c.PrivValidatorState = path
	return verify(c)
}

func verify(c *cfg.Config) error {

	g := &guard{config: c, now: time.Now()}
	if c.PrivValidatorListenAddr == "" {
		g.own = privval.LoadFilePVEmptyState(c.PrivValidatorKeyFile(), c.PrivValidatorStateFile()).Key.PubKey
	}

	blocks, states, err := comethome.OpenStores(c)
	if err != nil || states == nil {
		return err
	}
	defer blocks.Close()
	defer states.Close()
	g.blocks = blocks

	return g.check(states)
}

func (g *guard) check(states dbm.DB) error {
	doc, err := g.genesis(states)
	if err != nil {
		return err
	}
	if g.own == nil {
		return nil
	}

	state, err := sm.NewStore(states, sm.StoreOptions{}).Load()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", comethome.ErrChainDamage, g.config.DBDir(), err)
	}

	return g.signing(store.NewBlockStore(g.blocks), state, doc)
}

// genesis returns the genesis with which the chain began, or that of the file if it has not. If the
// file is another one than the chain began with, it returns an error that wraps
// comethome.ErrGenesisEdited: CometBFT would go on with the old one, and the rest of the node with
// the new one.
func (g *guard) genesis(states dbm.DB) (*types.GenesisDoc, error) {
	path := g.config.GenesisFile()
	file, err := comethome.ReadGenesisDoc(path)
	if err != nil {
		return nil, err
	}

	data, err := states.Get([]byte("genesisDoc")) // CometBFT's key
	if err != nil || len(data) == 0 {
		return file, err
	}

	began := new(types.GenesisDoc)
	if err := cmtjson.Unmarshal(data, began); err != nil {
		return nil, fmt.Errorf("%w: the genesis in state.db: %w", comethome.ErrChainDamage, err)
	}
	if err := began.ValidateAndComplete(); err != nil {
		return nil, fmt.Errorf("%w: the genesis in state.db: %w", comethome.ErrChainDamage, err)
	}

	differ := fingerprintOf(file).differences(fingerprintOf(began))
	if file.ChainID != began.ChainID {
		differ = append(differ, fmt.Sprintf("chain_id: theirs %q, ours %q", file.ChainID, began.ChainID))
	}
	if len(differ) > 0 {
		text := strings.NewReplacer("theirs ", "the file has ", "ours ", "the chain began with ").
			Replace(strings.Join(differ, "; "))
		return nil, fmt.Errorf("%w: %s (%s): put the chain's file back, which another node has; "+
			"'coppice validators update' changes validators", comethome.ErrGenesisEdited, path, text)
	}

	return began, nil
}

// Bounds of the search for our own signatures.
const (
	mostCommits = 10_000

	// mostBlocks is more than the number of blocks that any chain makes in a second.
	mostBlocks = 200

	// slack is how many heights a signing state may be ahead, whatever the clock says.
	slack = 1000
)

// signing returns an error if the signing state is not that of this validator at the end of this
// chain. If it is older than a signature in the blocks (comethome.ErrSigningOld), the validator
// could sign another vote for that height. If it is further ahead than the chain can be
// (comethome.ErrSigningAhead), the validator would sign nothing until the chain is there.
func (g *guard) signing(blocks *store.BlockStore, state sm.State, doc *types.GenesisDoc) error {
	path := g.config.PrivValidatorStateFile()
	var signed privval.FilePVLastSignState
	data, err := os.ReadFile(path)
	if err == nil {
		err = cmtjson.Unmarshal(data, &signed)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", comethome.ErrSigning, err)
	}

	is := fmt.Sprintf("%s is at height %d, round %d, step %d", path, signed.Height, signed.Round, signed.Step)

	oldest := max(1, signed.Height, blocks.Base(), blocks.Height()-mostCommits)
	for h := blocks.Height(); h >= oldest; h-- {
		commit := blocks.LoadBlockCommit(h)
		if commit == nil || h == blocks.Height() {
			commit = blocks.LoadSeenCommit(h)
		}
		if commit == nil || !signs(commit, g.own.Address()) || !before(signed, h, commit.Round) {
			continue
		}
		return fmt.Errorf("%w: %s, and block %d has this validator's precommit of round %d; "+
			"with it this validator could sign twice: put the file back as it was last, never an older copy; if "+
			"that is lost, see Signing state in docs/cometbft.md", comethome.ErrSigningOld, is, h, commit.Round)
	}

	last := max(blocks.Height(), state.LastBlockHeight, doc.InitialHeight-1)
	if signed.Height <= last+1 {
		return nil
	}

	const cure = "it is another home's, or the blocks are older than it: put the home back from one copy, with this " +
		"file as it was last"

	if alone(state, doc, g.own) {
		return fmt.Errorf("%w: %s, and the only validator of chain %s has %d blocks, so that "+
			"it would never sign again: %s", comethome.ErrSigningAhead, is, doc.ChainID, last, cure)
	}

	since := state.LastBlockTime
	if since.IsZero() {
		since = doc.GenesisTime
	}

	possible := last + slack + mostBlocks*max(int64(g.now.Sub(since)/time.Second), 0)
	if signed.Height > possible {
		return fmt.Errorf("%w: %s, and chain %s had %d blocks %v ago, so that this "+
			"validator would sign nothing until the chain is there: %s", comethome.ErrSigningAhead, is, doc.ChainID,
			last, g.now.Sub(since).Round(time.Second), cure)
	}

	return nil
}

// signs reports whether a commit has a signature of a validator.
func signs(c *types.Commit, validator types.Address) bool {
	for _, s := range c.Signatures {
		if s.BlockIDFlag != types.BlockIDFlagAbsent && bytes.Equal(s.ValidatorAddress, validator) {
			return true
		}
	}
	return false
}

// stepPrecommit is CometBFT's number of the last step of a round.
const stepPrecommit = 3

// before reports whether a signing state is before the precommit of a round.
func before(s privval.FilePVLastSignState, height int64, round int32) bool {
	switch {
	case s.Height != height:
		return s.Height < height
	case s.Round != round:
		return s.Round < round
	default:
		return s.Step < stepPrecommit
	}
}

// alone reports whether a key is that of the only validator.
func alone(state sm.State, doc *types.GenesisDoc, own crypto.PubKey) bool {
	if state.Validators != nil && state.Validators.Size() > 0 {
		return state.Validators.Size() == 1 && state.Validators.HasAddress(own.Address())
	}
	return len(doc.Validators) == 1 && doc.Validators[0].PubKey.Equals(own)
}
