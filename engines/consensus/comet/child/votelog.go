package child

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
)

// VoteLog is the environment variable with the directory in which CometBFT notes each vote that it
// signs, in a file for each validator. It is for campaigns, which look there for two votes of one
// key: CometBFT's own write-ahead log goes with each reset. Empty: nowhere.
const VoteLog = "COPPICE_VOTE_LOG"

// Vote is a line of a vote log: what a key is about to sign.
type Vote struct {
	Chain  string `json:"chain"`
	Height int64  `json:"height"`
	Round  int32  `json:"round"`
	Type   string `json:"type"`
	Block  string `json:"block"` // the hash of the block; empty: a vote for none
}

// voteLog is a signer that notes each vote before anybody gets it. A vote that cannot be noted is
// not signed, so that a campaign never sees fewer votes than there were.
type voteLog struct {
	types.PrivValidator
	file *os.File
}

// logVotes returns a signer that notes its votes, if the environment asks for it.
func logVotes(signer types.PrivValidator) (types.PrivValidator, error) {
	dir := os.Getenv(VoteLog)
	if dir == "" {
		return signer, nil
	}
	key, err := signer.GetPubKey()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, key.Address().String()+".votes"),
		os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", VoteLog, err)
	}

	return voteLog{signer, f}, nil
}

// SignVote implements types.PrivValidator.
func (l voteLog) SignVote(chainID string, v *cmtproto.Vote) error {
	if err := l.PrivValidator.SignVote(chainID, v); err != nil {
		return err
	}

	line, err := json.Marshal(Vote{Chain: chainID, Height: v.Height, Round: v.Round, Type: v.Type.String(),
		Block: fmt.Sprintf("%X", v.BlockID.Hash)})
	if err == nil {
		_, err = l.file.Write(append(line, '\n')) // whole, also if the process is killed: one write
	}

	return err
}
