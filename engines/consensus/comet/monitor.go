package comet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines/consensus/comet/seek"
	"github.com/coppice-go/coppice/supervisor"
)

// monitor polls CometBFT's RPC for the health of the driver, as long as the watchdog lives.
type monitor struct {
	rpc    rpc
	health *health
	signs  string // the file of the signing state; empty if the key is elsewhere
}

// Times of the polls.
const (
	pollEvery = 500 * time.Millisecond
	pollTime  = 2 * time.Second // bounds one poll
)

// monitored is the watchdog, with the monitor, the leaver and the seeker beside it.
type monitored struct {
	*watchdog
	monitor *monitor
	leaver  *leaver
	seeker  *seek.Seeker
}

// Serve watches and polls until ctx ends.
func (m monitored) Serve(ctx context.Context) error {
	if err := supervisor.Go(ctx, m.monitor.run); err != nil {
		return err
	}
	if err := supervisor.Go(ctx, m.leaver.run); err != nil {
		return err
	}
	if err := supervisor.Go(ctx, m.leaver.follow); err != nil {
		return err
	}
	if err := supervisor.Go(ctx, m.seeker.Run); err != nil {
		return err
	}
	return m.watchdog.Serve(ctx)
}

// run polls until ctx ends.
func (m *monitor) run(ctx context.Context) error {
	again := time.NewTicker(pollEvery)
	defer again.Stop()

	for {
		o, err := m.poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		m.health.polled(o, err)

		select { // faults are for the watchdog
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// poll asks once.
func (m *monitor) poll(ctx context.Context) (*observed, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()

	o := &observed{signHeight: m.signHeight()} // first: consensus may go on meanwhile, and signs then

	s, err := m.rpc.Status(ctx)
	if err != nil {
		return nil, err
	}

	o.height, o.catchingUp = s.SyncInfo.LatestBlockHeight, s.SyncInfo.CatchingUp
	o.address = s.ValidatorInfo.Address.String()

	if o.height == 0 { // the RPC may not have them yet
		o.validators = m.health.genesisValidators()
	} else {
		_, set, err := m.rpc.validatorSet(ctx, s.NodeInfo.Network)
		if err != nil {
			return nil, err
		}
		for _, v := range set {
			o.validators = append(o.validators, validator{v.Address, v.Power})
		}
	}

	if !o.catchingUp {
		if err := m.votes(ctx, o); err != nil {
			return nil, err
		}
	}

	return o, m.commit(ctx, o)
}

// votes reads who has voted at the height under way.
func (m *monitor) votes(ctx context.Context, o *observed) error {
	res, err := m.rpc.ConsensusState(ctx)
	if err != nil {
		return err
	}
	return o.readVotes(res.RoundState)
}

// readVotes takes the step and the votes of the newest round that has some from CometBFT's
// description of its round.
func (o *observed) readVotes(roundState []byte) error {
	var state struct {
		At    string `json:"height/round/step"`
		Votes []struct {
			Round      int      `json:"round"`
			Prevotes   []string `json:"prevotes"`
			Precommits []string `json:"precommits"`
		} `json:"height_vote_set"`
	}
	if err := json.Unmarshal(roundState, &state); err != nil {
		return fmt.Errorf("consensus_state: %w", err)
	}

	at := strings.Split(state.At, "/")
	if len(at) == 3 {
		o.step, _ = strconv.Atoi(at[2]) // of another form: not known
	}

	for _, round := range state.Votes {
		voted := o.voters(round.Prevotes, round.Precommits)
		if len(voted) == 0 || round.Round < o.round {
			continue
		}
		o.round, o.voted, o.last = round.Round, voted, voted

		// Prevotes of a quorum are answered by precommits. Whoever has not sent one may have
		// stopped after its prevote.
		if present, total, _ := o.power(o.voters(round.Prevotes)); 3*present > 2*total {
			o.last = o.voters(round.Precommits)
		}
	}

	return nil
}

// voters returns the addresses of the validators that have a vote in one of the lists, which have
// an entry for each validator.
func (o *observed) voters(lists ...[]string) (addresses []string) {
	for _, votes := range lists {
		for i, v := range votes {
			if v == "nil-Vote" || i >= len(o.validators) || slices.Contains(addresses, o.validators[i].address) {
				continue
			}
			addresses = append(addresses, o.validators[i].address)
		}
	}
	return addresses
}

// commit reads who has signed the last block, and at what times.
func (m *monitor) commit(ctx context.Context, o *observed) error {
	if o.height == 0 {
		return nil
	}

	res, err := m.rpc.Commit(ctx, &o.height)
	if err != nil || res.Commit == nil {
		return err
	}

	o.commitAt, o.clocks = res.Commit.Height, make(map[string]time.Time)

	for _, sig := range res.Commit.Signatures {
		if sig.BlockIDFlag == types.BlockIDFlagAbsent {
			continue
		}
		o.clocks[sig.ValidatorAddress.String()] = sig.Timestamp
	}

	return nil
}

// signHeight returns the height of the signing state, or 0 if it cannot be read.
func (m *monitor) signHeight() int64 {
	if m.signs == "" {
		return 0
	}

	var s struct {
		Height int64 `json:"height,string"`
	}
	data, err := os.ReadFile(m.signs)
	if err != nil || json.Unmarshal(data, &s) != nil {
		return 0 // between two writes of CometBFT; a lost file has ended the start
	}

	return s.Height
}
