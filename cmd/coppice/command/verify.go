package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/offline"
)

// verifyJSON is what "verify --json" prints.
type verifyJSON struct {
	OK         bool   `json:"ok"`
	Reason     string `json:"reason,omitempty"`
	ChainID    string `json:"chain_id"`
	Height     uint64 `json:"height"`
	AppHash    string `json:"app_hash"`
	State      uint64 `json:"state_height"`
	Records    uint64 `json:"records"`
	TornBytes  int64  `json:"torn_bytes"`
	Blocks     uint64 `json:"blocks"`
	Txs        uint64 `json:"txs"`
	Replayed   bool   `json:"replayed"` // the blocks were executed again
	Launched   uint64 `json:"launched"`
	Unfinished uint64 `json:"unfinished"`
	Resets     uint64 `json:"resets,omitempty"`

	Snapshots int `json:"snapshots"`

	First    uint64 `json:"first"`          // record of the log
	Base     string `json:"base,omitempty"` // the snapshot that the replay began with
	BaseAt   uint64 `json:"base_height,omitempty"`
	LogMs    int64  `json:"log_ms"`
	StateMs  int64  `json:"state_ms"`
	ReplayMs int64  `json:"replay_ms"`
}

func (a *app) verifyCommand() *cobra.Command {
	o := offline.VerifyOptions{Backends: a.program.backends()}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the log and the state of a stopped home, and that replay agrees",
		Long: `Verify reads whatever a start, a backup and a restore would read: the files of the home, and every
byte of the log, of the state, of the snapshots and of CometBFT's databases. It executes every
logged block again. The results, changes and app hashes must be those in the log, and the state must
be what they make. Verify changes nothing, and the home may be on a file system that is mounted
read-only. Damage exits 5, with what is damaged and where.`,
		Example: `  coppice verify && coppice start
  coppice verify --skip-replay --json`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			show := newProgress()
			o.Progress = steps(show)
			o.Fatal = fatal(cmd)
			v, err := offline.Verify(cmd.Context(), a.home, o)
			show.end()
			if err != nil && !errors.Is(err, exit.ErrDamage) {
				return err
			}

			out := cmd.OutOrStdout()

			if asJSON {
				j := verifyJSON{
					OK: err == nil, ChainID: v.ChainID, Height: v.Height, AppHash: fmt.Sprintf("%x", v.AppHash),
					State:   v.State,
					Records: v.Log.Records, TornBytes: v.Log.TornBytes, Blocks: v.Blocks, Txs: v.Txs,
					Replayed: !o.SkipReplay,
					Launched: v.Launched, Unfinished: v.Unfinished, Snapshots: v.Snapshots, Resets: v.Resets,
					First: v.First, Base: v.Base, BaseAt: v.BaseHeight, LogMs: v.LogTook.Milliseconds(),
					StateMs: v.StateTook.Milliseconds(), ReplayMs: v.ReplayTook.Milliseconds(),
				}
				if err != nil {
					j.Reason = err.Error()
				}
				return errors.Join(printJSON(out, j), err)
			}
			if err != nil {
				return err
			}

			if v.ChainID == "" {
				_, err = fmt.Fprintln(out, "nothing to verify: no node was started in this home")
				return err
			}

			from := ""
			if v.Base != "" {
				from = fmt.Sprintf(", from height %d on, with snapshot %s", v.BaseHeight, v.Base)
			}

			rate := ""
			if s := v.ReplayTook.Seconds(); s >= 1 {
				rate = fmt.Sprintf(", in %v (%.0f/s)", v.ReplayTook.Round(100*time.Millisecond), float64(v.Txs)/s)
			}

			replayed := fmt.Sprintf("replayed   %d blocks, %d transactions%s%s", v.Blocks, v.Txs, from, rate)
			if o.SkipReplay {
				replayed = fmt.Sprintf("replay     skipped: %d blocks, %d transactions were not executed again%s",
					v.Blocks, v.Txs, from)
			}

			resets := ""
			if v.Resets > 0 {
				resets = fmt.Sprintf("resets     %d\n", v.Resets)
			}

			behind := ""
			if v.State < v.Height {
				behind = "; the next start applies the rest"
			}

			_, err = fmt.Fprintf(out, `chain      %s
height     %d, app hash %x
state      at height %d%s
log        %d records, %d bytes torn at its end
%s
%slaunched   %d transactions, %d without a result yet
whole
`, v.ChainID, v.Height, v.AppHash, v.State, behind, v.Log.Records, v.Log.TornBytes, replayed, resets,
				v.Launched, v.Unfinished)

			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.SkipReplay, "skip-replay", false,
		"do not execute the blocks again, which takes as long as the first time")
	f.BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}
